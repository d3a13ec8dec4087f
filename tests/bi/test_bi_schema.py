"""The BI schema is stable across versions: columns keep their order and types, and have comments."""

import json
from pathlib import Path

import asyncpg
import pytest

from docs.generate import DICTIONARY, write_dictionary
from service.store.database import Database, load_queries

VIEWS = {
    "batches", "batch_outcomes", "batch_results", "recipient_outcomes", "call_attempts", "hourly_attempts",
    "reconciliations", "provider_metrics", "other_calls", "caller_numbers", "failure_reasons",
}  # fmt: skip
# Dashboards and notebooks depend on these. Add lines only at the end of a view, and change none.
COLUMNS: dict[str, list[list[str]]] = json.loads((Path(__file__).parent / "bi_columns.json").read_text())


async def list_columns(database: Database, schema: str) -> dict[str, list[list[str]]]:
    """The name and type of each column, by view."""
    columns: dict[str, list[list[str]]] = {}
    async for row in load_queries().list_bi_columns(database.pool):
        if row["schema"] == schema:
            columns.setdefault(row["view"], []).append([row["name"], row["type"]])
    return columns


@pytest.mark.parametrize("schema", ["bi", "bi_full"])
async def test_the_columns_are_the_published_ones(database: Database, schema: str) -> None:
    assert await list_columns(database, schema) == COLUMNS, (
        "columns may only be added at the end of a view: then add them to bi_columns.json too"
    )
    assert COLUMNS.keys() == VIEWS


async def test_the_database_refuses_to_move_or_remove_a_column(database: Database) -> None:
    for columns in ("as_of AS upload_id", "upload_id::text AS upload_id", "upload_id"):
        with pytest.raises(asyncpg.InvalidTableDefinitionError):
            await database.pool.execute(f"CREATE OR REPLACE VIEW bi.batches AS SELECT {columns} FROM bi_full.batches")


async def test_every_view_and_column_has_a_comment(database: Database) -> None:
    async for row in load_queries().list_bi_columns(database.pool):
        for sentence in (row["comment"], row["view_comment"]):
            assert sentence, f"{row['schema']}.{row['view']}.{row['name']}"
            assert sentence.endswith("."), sentence


async def test_the_comment_of_every_rate_names_its_numerator_and_denominator(database: Database) -> None:
    named = {}
    async for row in load_queries().list_bi_columns(database.pool):
        if row["schema"] == "bi" and row["name"].endswith("_percent"):
            part, whole = row["comment"].removeprefix("Percent, unrounded: ").split(".")[0].split(" of ")
            named[row["name"]] = {part, whole} <= {name for name, _ in COLUMNS[row["view"]]}
    assert named == dict.fromkeys(
        [
            "success_rate_percent",
            "completion_rate_percent",
            "connect_rate_percent",
            "penetration_percent",
            "goal_rate_percent",
            "share_percent",
        ],
        True,
    )


async def test_every_view_has_the_verdict_and_the_time_of_its_figures() -> None:
    for view, columns in COLUMNS.items():
        names = {name for name, _ in columns}
        if view == "other_calls":  # in no batch
            assert "as_of" in names
        else:
            assert {"verdict", "as_of", "campaign_id", "batch_id", "upload_id"} <= names, view


async def test_the_dictionary_is_generated_from_the_comments(database: Database) -> None:
    async with database.pool.acquire() as connection:
        assert await write_dictionary(connection) == DICTIONARY.read_text(), "run `make docs`"

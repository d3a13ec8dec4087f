"""Every named query fits the schema, and every table and query says in a sentence what it is for."""

import inspect
import re

import pytest

from service.formant.events import Event
from service.store.database import Database, find_sql_folder, load_queries
from service.store.migrations import read_functions

QUERIES = load_queries()
NAMES = sorted(
    name
    for name in QUERIES.available_queries
    if not name.endswith("_cursor") and not name.startswith("_") and hasattr(getattr(QUERIES, name), "sql")
)
SESSION_CHANGES = re.compile(
    r"(\A|;)\s*(SET|LISTEN|DISCARD|LOAD|CREATE TEMP)\b|\bpg_(try_)?advisory_lock", re.IGNORECASE
)
SEVERAL_STATEMENTS = {"create_schema_tables"}  # a script cannot be prepared; migrating runs it


def test_the_queries_are_found() -> None:
    assert {"ingest", "get_event", "get_batch_counts", "list_batches", "create_body_partitions"} <= set(NAMES)
    assert len(NAMES) > 20


async def test_every_query_can_be_prepared_against_the_schema(database: Database) -> None:
    refused = {}
    async with database.pool.acquire() as connection:
        for name in sorted(set(NAMES) - SEVERAL_STATEMENTS):
            try:
                await connection.prepare(getattr(QUERIES, name).sql)
            except Exception as error:
                refused[name] = error
    assert refused == {}


async def test_a_read_of_the_outcomes_calls_nothing_that_is_planned_again(database: Database) -> None:
    """Postgres before 18 plans an SQL function that it cannot inline again for each statement that calls it."""
    functions = {
        row["proname"]: row
        for row in await database.pool.fetch(
            """
            SELECT p.proname, p.prosrc,
                   l.lanname = 'sql' AND (p.prosecdef OR p.proconfig IS NOT NULL) AS is_planned_again
            FROM pg_proc AS p
            JOIN pg_language AS l ON l.oid = p.prolang
            WHERE p.pronamespace = 'public'::regnamespace
            """
        )
    }
    called: set[str] = set()
    texts = [QUERIES.get_batch_counts.sql, QUERIES.get_batch_version.sql]
    while texts:
        named = functions.keys() & set(re.findall(r"\w+", texts.pop()))
        texts += [functions[name]["prosrc"] for name in named - called]
        called |= named
    assert {"batch_version", "find_spilled", "count_retries"} <= called
    assert not {name for name in called if functions[name]["is_planned_again"]}


@pytest.mark.parametrize("name", NAMES)
def test_no_query_changes_its_session(name: str) -> None:
    """Connections return to the pool as they are."""
    text = getattr(QUERIES, name).sql
    assert not SESSION_CHANGES.search(text), text
    assert all(call.rstrip().endswith(", true)") for call in re.findall(r"set_config\([^)]*\)", text)), text


@pytest.mark.parametrize("name", NAMES)
def test_every_query_says_in_a_sentence_what_it_is_for(name: str) -> None:
    sentence = inspect.getdoc(getattr(QUERIES, name)) or ""
    assert sentence[:1].isupper()
    assert sentence.endswith(".")


def test_every_function_says_in_a_sentence_what_it_is_for() -> None:
    silent = [file.name for file in read_functions() if not file.text.startswith("-- ")]
    assert silent == []


async def test_every_table_says_in_a_sentence_what_it_is_for(database: Database) -> None:
    rows = await database.pool.fetch(
        """
        SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS sentence
        FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        """
    )
    migrators_own = {"schema_migrations", "schema_functions", "migrations_lock"}
    tables = {row["name"]: row["sentence"] for row in rows if row["name"] not in migrators_own}
    assert len(tables) > 10
    assert [name for name, sentence in tables.items() if not (sentence or "").endswith(".")] == []


def test_an_events_fields_are_in_the_order_of_the_parameters_of_ingest() -> None:
    text = (find_sql_folder() / "queries" / "ledger.sql").read_text()
    statement = text.partition("-- name: ingest(")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"=> :(\w+)", statement)) == Event._fields

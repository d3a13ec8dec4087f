"""The masked views of bi show nothing that looks like a phone, in any script and spelling, and only results that are
set to be shown."""

import json
import random
import sys
import unicodedata
from typing import Any

import pytest

from service.store.bi_roles import set_closed, set_shown
from service.store.database import Connection, Database
from tests.factories import decode, make_payload, phone_of, store_batch
from tests.processes import OUTCOMES, run
from tests.webhooks.ingesting import ingest

VIEWS = (
    "batches", "batch_outcomes", "batch_results", "recipient_outcomes", "call_attempts", "hourly_attempts",
    "reconciliations", "provider_metrics", "caller_numbers", "failure_reasons",
)  # fmt: skip
NAMED_VIEWS = tuple(
    view for view in VIEWS if view not in {"reconciliations", "provider_metrics", "failure_reasons"}
)  # these have rows here
CHARACTERS = [chr(number) for number in range(1, sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
ZEROS = [each for each in CHARACTERS if unicodedata.decimal(each, None) == 0]
"""The digit zero of each script; the other digits follow it."""
GAPS = [
    each for each in CHARACTERS
    if unicodedata.category(each)[0] in "ZP" or each in "+|~\t\n\u200b\u200d\u2060\ufeff\u00ad"
]  # fmt: skip


async def mask(connection: Connection, *texts: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT bi_mask_text(t.content) AS masked FROM unnest($1::text[]) WITH ORDINALITY AS t (content, nth) "
        "ORDER BY nth",
        list(texts),
    )  # fmt: skip
    return [row["masked"] for row in rows]


def count_digits(text: str) -> int:
    return sum(unicodedata.digit(each, None) is not None for each in text)


async def test_a_phone_is_masked_in_every_script_and_with_any_separators(database: Database) -> None:
    dice = random.Random(7)
    texts = []
    for number in range(4000):
        zero = ZEROS[number % len(ZEROS)]
        digits = [chr(ord(zero) + dice.randrange(10)) for _ in range(dice.randint(7, 13))]
        gaps = ["".join(dice.choices(GAPS, k=dice.choice([0, 0, 0, 1, 2, 3]))) for _ in digits]
        texts.append("call " + "".join(digit + gap for digit, gap in zip(digits, gaps, strict=True)) + " now")
    async with database.pool.acquire() as connection:
        masked = await mask(connection, *texts)
    assert [(text, shown) for text, shown in zip(texts, masked, strict=True) if count_digits(shown)] == []
    assert all(shown.startswith("call ") and shown.endswith(" now") for shown in masked)


@pytest.mark.parametrize(
    "text",
    [
        "९८७६५ ४३२१०", "９８７６５４３２１０", "٩٨٧٦٥٤٣٢١٠", "98765\u00a043210", "98765\u202f43210", "98765/43210",
        "98765_43210", "9876 5432", "987-6543", "+91 (98765) 43210", "9.8.7.6.5.4.3", "⑨⑧⑦⑥⑤④③②①", "98765\u200b43210",
        "9८7६5४3２1٠", "98765 – 43210", "98765\ue00043210", "0091-98765-43210", "1250000", "2026-03-1698765",
        "987654.32 10123", "asha@example.com", "tel:9876543210", "98,76,54,32,10", "9876543210 on 2026-03-16",
    ],
)  # fmt: skip
async def test_text_that_looks_like_a_phone_is_masked(database: Database, text: str) -> None:
    async with database.pool.acquire() as connection:
        (shown,) = await mask(connection, text)
    assert "(masked)" in shown
    assert count_digits(shown.replace("2026-03-16", "")) < 5, shown


@pytest.mark.parametrize(
    "text",
    [
        "", "no", "promise_to_pay", "LN-12345", "12 Lake Road", "2026-03-16", "16/03/2026", "2026-03-20T10:00:00",
        "2026-03-20T10:00:00.123Z", "2026-03-20 10:00:00", "15000.50", "999999.99", "0.85", "123456", "29000",
        "March 2026, batch 12", "१२ मार्च", "98765 and 43210", "e3f853de-9cbb-4b1e-ad75-d3c8ac82abfb",
    ],
)  # fmt: skip
async def test_text_without_a_phone_is_unchanged(database: Database, text: str) -> None:
    async with database.pool.acquire() as connection:
        assert await mask(connection, text) == [text]


async def fill(database: Database, results: dict[str, Any], **fields: Any) -> None:
    """Stores a batch with one call; its name and its provider status contain a phone."""
    await store_batch(database.url, 1)
    await database.pool.execute(
        "UPDATE batches SET name = 'callback ९८७६५/४३२१०', status = 'held for 98765 43210', "
        "columns = '{customer_phone,98765_43210,loan_id}'"
    )
    await ingest(database, *decode(make_payload(results=results, **fields)))


async def read(database: Database, view: str, schema: str = "bi") -> Any:
    (row,) = await database.pool.fetch(f"SELECT * FROM {schema}.{view}")
    return row


async def test_texts_of_a_batch_are_masked_in_every_view_except_the_full_ones(database: Database) -> None:
    await fill(database, {"intent": "pay"})
    for view in NAMED_VIEWS:
        row = await read(database, view)
        assert row["batch_name"] == "callback (masked)", view
        assert (await read(database, view, "bi_full"))["batch_name"] == "callback ९८७६५/४३२१०", view
        if "provider_status" in row:
            assert row["provider_status"] == "held for (masked)", view
    columns = (await read(database, "batches"))["parameter_columns"]
    assert columns == ["customer_phone", "(masked)", "loan_id"]


async def test_every_view_of_bi_masks_the_texts_of_a_batch(database: Database) -> None:
    for view in VIEWS:
        text = await database.pool.fetchval("SELECT pg_get_viewdef(format('bi.%I', $1::text)::regclass)", view)
        assert "bi_mask_text" in text, view
        assert "bi_full." in text, view


async def test_names_and_values_of_parameters_and_results_are_masked(database: Database) -> None:
    results = {
        "98765_43210": "x",
        "mobile": "९८७६५४३२१०",
        "amount": 12.3456789,
        "count": 9876543210,
        "list": ["98765/43210"],
    }
    await fill(database, results)
    await database.pool.execute(
        """UPDATE recipients SET parameters = '{"98765 43210": "a", "note": "ring 98765/43210", "city": "Pune"}'"""
    )
    async with database.pool.acquire() as connection:
        await set_shown(connection, "parameter", ("note", "city", "98765 43210"), is_shown=True)
    for view in ("recipient_outcomes", "call_attempts"):
        row = await read(database, view)
        assert json.loads(row["parameters"]) == {"(masked)": "a", "note": "ring (masked)", "city": "Pune"}
        assert json.loads(row["results"]) == {
            "(masked)": "x", "mobile": "(masked)", "amount": 12.3456789, "count": "(masked)", "list": '["(masked)"]',
        }  # fmt: skip
    counted = await database.pool.fetch("SELECT name, value FROM bi.batch_results")
    assert {row["name"] for row in counted} == {"(masked)", "mobile", "amount", "count", "list"}
    assert not any("98765" in str(dict(row)) for row in counted)


async def test_a_conversation_id_is_masked_if_it_contains_the_called_phone(database: Database) -> None:
    await fill(database, {}, conversation_id=f"call-{phone_of(1)[3:]}_1")
    for view in ("recipient_outcomes", "call_attempts"):
        assert (await read(database, view))["conversation_id"] == "(masked)"
        assert phone_of(1)[3:] in (await read(database, view, "bi_full"))["conversation_id"]
    await ingest(database, *decode(make_payload(attempt=2, conversation_id="e36853de-9cbb-4412-1175-431234567890_1")))
    row = await read(database, "recipient_outcomes")
    assert row["conversation_id"] == "e36853de-9cbb-4412-1175-431234567890_1"


RESULTS = {"intent": "pay", "customer_name": "Asha", "Nominee_Name": "Ravi", "rename": "no", "a_b": "1", "axb": "2"}


async def read_shown(database: Database) -> dict[str, Any]:
    """The results that the masked views show, which must be the same in all of them."""
    counted = await database.pool.fetch("SELECT name, value FROM bi.batch_results")
    shown: dict[str, Any] = {row["name"]: row["value"] for row in counted}
    for view in ("recipient_outcomes", "call_attempts"):
        assert json.loads((await read(database, view))["results"]) == shown
    return {name: value for name, value in shown.items() if value != "(hidden)"}


async def test_results_hidden_by_pattern_can_be_shown_by_name(database: Database) -> None:
    await fill(database, RESULTS)
    async with database.pool.acquire() as connection:
        assert await read_shown(database) == RESULTS
        assert await set_shown(connection, "result", ("*_name",), is_shown=False) == ["result *_name: hidden"]
        assert await read_shown(database) == {"intent": "pay", "rename": "no", "a_b": "1", "axb": "2"}
        await set_shown(connection, "result", ("Nominee_Name",), is_shown=True)
        assert (await read_shown(database))["Nominee_Name"] == "Ravi"
        await set_shown(connection, "result", ("a_b",), is_shown=False)  # matches an underscore only
        assert (await read_shown(database)).keys() == {"intent", "Nominee_Name", "rename", "axb"}
        await set_shown(connection, "result", ("*",), is_shown=False)
        assert await read_shown(database) == {"Nominee_Name": "Ravi"}


async def test_for_a_closed_agent_only_results_shown_by_name_appear(database: Database) -> None:
    await fill(database, RESULTS)
    async with database.pool.acquire() as connection:
        await set_closed(connection, 999, is_closed=True)
        assert await read_shown(database) == RESULTS
        lines = await set_closed(connection, 123, is_closed=True)
        assert lines[-2:] == [
            "results of agent 123: hidden unless shown by name", "results of agent 999: hidden unless shown by name",
        ]  # fmt: skip
        assert await read_shown(database) == {}
        await set_shown(connection, "result", ("intent",), is_shown=True)
        assert await read_shown(database) == {"intent": "pay"}
        await set_closed(connection, 123, is_closed=False)
        assert await read_shown(database) == RESULTS


async def test_patterns_and_agents_are_set_from_the_command_line(database_url: str) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database_url}
    hidden = await run(OUTCOMES, "bi", "hide", "--result", "*name*", **settings)
    assert (hidden.status, hidden.output) == (0, "result *name*: hidden\n"), hidden.errors
    closed = await run(OUTCOMES, "bi", "hide", "--result", "--agent", "123", **settings)
    assert closed.output.splitlines()[-1] == "results of agent 123: hidden unless shown by name", closed.errors
    assert "agent" not in (await run(OUTCOMES, "bi", "show", "--result", "--agent", "123", **settings)).output
    for arguments, message in (
        (["show", "--result", "*"], "is a pattern, which only bi hide --result takes"),
        (["hide", "city*"], "is a pattern, which only bi hide --result takes"),
        (["hide", "--agent", "1"], "--agent goes with --result"),
        (["hide", "--result"], "Give either names or --agent"),
        (["show", "--result", "--agent", "1", "x"], "Give either names or --agent"),
    ):
        refused = await run(OUTCOMES, "bi", *arguments, **settings)
        assert refused.status == 2, arguments
        assert message in refused.errors


@pytest.mark.parametrize("number", ["9876543210.0", "919876543210.00", "-9876543210.5", "1234567.0"])
async def test_a_phone_stored_as_a_decimal_number_is_masked(database: Database, number: str) -> None:
    shown = await database.pool.fetchval("SELECT bi_mask_value($1::jsonb) #>> '{}'", number)
    assert shown.lstrip("-") == "(masked)"


@pytest.mark.parametrize("number", ["0.123456789", "77.5945627", "-12.9715987", "15000.50", "125.5", "999999.99"])
async def test_a_decimal_number_that_is_no_phone_is_shown(database: Database, number: str) -> None:
    assert await database.pool.fetchval("SELECT bi_mask_value($1::jsonb) #>> '{}'", number) == number

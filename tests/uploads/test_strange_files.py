"""Files as people make them: they reach the provider and the database as they are, or are refused with the reason."""

import csv
import io
import json
from typing import Any

import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.provider import connect_provider, upload

FORMULAS = ["=1+1", "+1", "-2", "@SUM(A1)", '=HYPERLINK("http://x","y")', "\t=1", "'=1"]
AWKWARD = ['"', '""', ",", ";", "\n", "\r\n", "two\nlines", "\\N", "\\.", "\\", "{}", "null", "é", "日本", "😀", " "]


def write_csv(columns: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue()


async def assert_kept(start_service: StartService, database: Database, columns: list[str], cells: list[str]) -> None:
    """One recipient with the given cells: the provider and the database have them to the letter."""
    content = write_csv(["customer_phone", *columns], [["+919876543210", *cells]])
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, content)
        assert answer.status_code == 200, answer.text[:500]
        _, sent = sandbox.sandbox.find_batch(456).contacts.read(0)
    assert sent.pop("outcome_ref")
    stored: dict[str, Any] = json.loads(await database.pool.fetchval("SELECT parameters FROM recipients"))
    assert stored == sent == dict(zip(columns, cells, strict=True))


async def test_formulas_quotes_and_line_breaks_are_kept_to_the_letter(
    start_service: StartService, database: Database
) -> None:
    cells = FORMULAS + AWKWARD
    await assert_kept(start_service, database, [f"column {n}" for n in range(len(cells))], cells)


async def test_two_thousand_columns_are_kept(start_service: StartService, database: Database) -> None:
    await assert_kept(start_service, database, [f"c{n}" for n in range(1999)], [str(n) for n in range(1999)])


async def test_a_cell_of_a_megabyte_is_kept(start_service: StartService, database: Database) -> None:
    await assert_kept(start_service, database, ["note"], ["x" * (2**20 - 1) + "."])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (write_csv(["customer_phone", *(f"c{n}" for n in range(2000))], [["+919876543210", *["1"] * 2000]]), "2001"),
        (write_csv(["customer_phone", "note"], [["+919876543210", "x" * (2**20 + 10)]]), "line 2"),
        ("customer_phone\n+919876543210\n\x00\n", "NUL"),
        ("customer_phone,note\n+919876543210,a,b\n", "3 cells"),
    ],
)
async def test_what_is_beyond_the_limits_is_refused_and_stores_nothing(
    start_service: StartService, database: Database, content: str, expected: str
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, content)
        assert (answer.status_code, expected in answer.json()["error"]["message"]) == (400, True), answer.text[:500]
        assert not sandbox.sandbox.records.batches
    assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_any_usual_delimiter_and_a_byte_order_mark_are_read(start_service: StartService, delimiter: str) -> None:
    content = f"\ufeffcustomer_phone{delimiter}note\r\n+91 98765-43210{delimiter}a b\r\n"
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, content)).status_code == 200
        phone, parameters = sandbox.sandbox.find_batch(456).contacts.read(0)
        assert (phone, parameters["note"]) == ("+919876543210", "a b")


async def test_national_numbers_are_let_in_by_a_default_region_and_refused_without(start_service: StartService) -> None:
    content = "customer_phone\n098765 43210\n"
    async with connect_provider(start_service) as (service, _):
        answer = await upload(service, content)
        assert (answer.status_code, "region=IN" in answer.json()["error"]["message"]) == (400, True)
    settings: dict[str, Any] = {"OUTCOMES_DEFAULT_REGION": "IN"}
    async with connect_provider(start_service, **settings) as (service, sandbox):
        assert (await upload(service, content)).status_code == 200
        assert sandbox.sandbox.find_batch(456).contacts.read(0)[0] == "+919876543210"


async def test_a_file_large_enough_for_a_process_of_its_own_is_checked_and_stored_alike(
    start_service: StartService, database: Database
) -> None:
    rows = [[f"+91{9_000_000_000 + n}", f"Customer {n}", "x" * 40] for n in range(20_000)]
    content = write_csv(["customer_phone", "customer_name", "note"], rows)
    assert len(content) > 2**20
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, content)).json()["data"]["total_recipients"] == 20_000
        assert sandbox.sandbox.find_batch(456).contacts.read(19_999)[0] == "+919000019999"
        bad = content + "12,x,y\n" + "+919000000000,x,y\n"
        refused = await upload(service, bad)
        assert (refused.status_code, refused.json()["error"]["details"]["report"]["error_count"]) == (400, 2)
    assert await database.pool.fetchval("SELECT count(*) FROM recipients") == 20_000

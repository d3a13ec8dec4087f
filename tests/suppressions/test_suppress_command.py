"""``outcomes suppress``: a file of phones put on the list or removed from it."""

from pathlib import Path

import pytest

from service.store.database import Database
from tests.processes import OUTCOMES, Finished, run

PHONES = [f"+91980{number:07}" for number in range(2500)]


async def run_suppress(url: str, file: Path, *arguments: str) -> Finished:
    return await run(OUTCOMES, "suppress", str(file), *arguments, OUTCOMES_DATABASE_URL=url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "phones.txt"
    path.write_text("\n".join(PHONES))
    return path


async def test_a_file_is_suppressed_and_removed_again(database_url: str, database: Database, file: Path) -> None:
    made = await run_suppress(database_url, file, "--reason", "register of 1 March")
    assert (made.status, made.output) == (0, "2,500 people suppressed, 0 were on the list already.\n")
    rows = await database.pool.fetch("SELECT DISTINCT reason, source, actor FROM suppressions WHERE lifted_at IS NULL")
    assert [tuple(row) for row in rows] == [("register of 1 March", "command", "command line")]
    again = await run_suppress(database_url, file, "--reason", "again")
    assert "0 people suppressed, 2,500 were" in again.output

    file.write_text("customer_phone\n" + "\n".join([*PHONES[:10], "+919876543210"]))
    removed = await run_suppress(database_url, file, "--remove", "--reason", "wrong file")
    assert removed.output == "10 people removed from the list, 1 were not on it.\n"

    file.write_text("Mobile,Name\n" + "\n".join(f"{phone},x" for phone in PHONES[:5]))
    refused = await run_suppress(database_url, file, "--reason", "r")
    assert (refused.status, "'Mobile' holds phone numbers: send phone_column=Mobile" in refused.errors) == (2, True)
    named = await run_suppress(database_url, file, "--reason", "r", "--phone-column", "mobile")
    assert named.output.startswith("5 people suppressed, 0 were")
    assert await database.pool.fetchval("SELECT count(*) FROM suppressions WHERE lifted_at IS NULL") == 2495


async def test_a_file_that_cannot_be_read_is_refused_whole(database_url: str, database: Database, file: Path) -> None:
    file.write_text("+919876543210\n55512\n")
    refused = await run_suppress(database_url, file, "--reason", "r")
    assert refused.status == 2
    assert "line 2" in refused.errors
    assert "55512" not in refused.errors
    for wrong in (("--reason", "r", "--region", "India"), ("--reason", "r", "--source", "outcome"), ()):
        file.write_text("+919876543210\n")
        assert (await run_suppress(database_url, file, *wrong)).status == 2
    assert await database.pool.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_national_phones_need_a_region(database_url: str, database: Database, file: Path) -> None:
    file.write_text("98765 43210\n")
    assert (await run_suppress(database_url, file, "--reason", "r")).status == 2
    assert (await run_suppress(database_url, file, "--reason", "r", "--region", "in")).status == 0
    assert await database.queries.get_suppression(database.pool, phone="+919876543210") is not None

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
    assert (refused.status, "'Mobile' holds phone numbers: use --phone-column Mobile" in refused.errors) == (2, True)
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


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (f"Mobile No,Name\n{PHONES[0]},x\n", "use --phone-column 'Mobile No'"),
        (f"Mobile,Phone\n{PHONES[0]},{PHONES[1]}\n", "such as --phone-column Mobile"),
        ("Name,City\nAsha,Pune\n", "Name the one with the phones: --phone-column NAME"),
        ("98765 43210\n98765 43211\n", "use --region IN if it is a number of India"),
        ("customer_phone,name\n98765 43210,Asha\n98765 43211,Ravi\n", "use --region IN if it is a number of India"),
        ("919876543210\n", "or use --region IN"),
        ("customer_phone,name,note\n\nTotal,,\n", "remove the notes\n"),
        ("customer_phone,name\n12,Asha\n13,Ravi\n", "(and 1 more)"),
    ],
)
async def test_a_remedy_names_options_of_this_command(
    database_url: str, database: Database, file: Path, content: str, remedy: str
) -> None:
    file.write_text(content)
    refused = await run_suppress(database_url, file, "--reason", "r")
    said = " ".join(refused.errors.split())
    assert (refused.status, remedy.strip() in said) == (2, True), said
    assert not any(word in said for word in ("phone_column=", "region=", "see details", "invalid=skip", "send ")), said
    assert await database.pool.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_national_phones_need_a_region(database_url: str, database: Database, file: Path) -> None:
    file.write_text("98765 43210\n")
    assert (await run_suppress(database_url, file, "--reason", "r")).status == 2
    assert (await run_suppress(database_url, file, "--reason", "r", "--region", "in")).status == 0
    assert await database.queries.get_suppression(database.pool, phone="+919876543210") is not None

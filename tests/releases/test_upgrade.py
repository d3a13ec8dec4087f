"""The database of each release is upgraded to this version: nothing is lost, and the schema is that of a new one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import create_database, drop_database, make_starter
from tests.factories import make_payload, post_webhook
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run
from tests.releases.databases import copy_schema, list_dumps, load

COUNTS = """
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM outcomes), (SELECT count(*) FROM quarantine),
       (SELECT count(*) FROM api_keys), (SELECT max(position) FROM outcomes)
"""


async def count_rows(url: str) -> tuple[int, ...]:
    connection = await asyncpg.connect(url)
    try:
        (row,) = await connection.fetch(COUNTS)
        return tuple(row)
    finally:
        await connection.close()


@asynccontextmanager
async def new_databases(server: PostgresServer, number: int) -> AsyncIterator[list[str]]:
    urls = [await create_database(server, "template0") for _ in range(number)]
    yield urls
    for url in urls:
        await drop_database(server, url)


def test_a_release_has_left_its_database() -> None:
    assert list_dumps()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", list_dumps(), ids=lambda path: path.name.removesuffix(".sql.gz"))
async def test_the_database_of_a_release_is_upgraded(
    path: Path, empty_database_url: str, database_url: str, postgres: PostgresServer
) -> None:
    load(path, empty_database_url)
    before = await count_rows(empty_database_url)
    assert before[:4] == (5, 4, 1, 1)
    migrated = await run(OUTCOMES, "migrate", OUTCOMES_DATABASE_URL=empty_database_url)
    assert (migrated.status, migrated.output) == (0, "The schema is up to date.\n"), migrated.errors
    async with new_databases(postgres, 2) as (one, other):
        assert copy_schema(empty_database_url, one) == copy_schema(database_url, other)
    verified = await run(OUTCOMES, "verify", OUTCOMES_DATABASE_URL=empty_database_url)
    assert verified.status == 0, verified
    assert await count_rows(empty_database_url) == before
    async with make_starter(empty_database_url)() as service:
        for event, counted in (("event-1", 5), ("event-6", 6)):
            assert (await post_webhook(service, make_payload(recipient=5, event_id=event))).status_code == 204
            assert (await count_rows(empty_database_url))[0] == counted

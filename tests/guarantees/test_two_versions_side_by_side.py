"""An upgrade without downtime: this version and the next beside each other on one database, and nothing is refused or
lost. This version's code path runs against the next one's schema, through restarts too."""

import asyncio
import signal
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from tests.factories import store_batch
from tests.guarantees.checker import Checker, following_the_feed
from tests.guarantees.next_version import ADDS, NextVersion
from tests.processes import OUTCOMES, Finished, Serving, run, serve

RECIPIENTS = 50_000
A_WHILE = 200

Result = TypeVar("Result")


async def load_beside(checker: Checker, services: Sequence[Serving], doing: Awaitable[Result]) -> Result:
    """Sends webhooks to the services in turn while something is done, and for a while at least."""
    task = asyncio.ensure_future(doing)
    while True:
        await checker.load([serving.client for serving in services], A_WHILE)
        if task.done():
            return await task


async def migrate_to(version: NextVersion, url: str) -> Finished:
    return await run(*version.program, "migrate", OUTCOMES_DATABASE_URL=url, **version.settings)


@pytest.mark.timeout(300)  # seven processes start one after the other
async def test_the_next_version_takes_over_under_load_and_nothing_is_refused(
    database_url: str, tmp_path: Path, checker: Checker
) -> None:
    await store_batch(database_url, RECIPIENTS)
    version = NextVersion(tmp_path)
    async with AsyncExitStack() as stack, following_the_feed(database_url):

        async def start_this() -> Serving:
            return await stack.enter_async_context(serve(OUTCOMES_DATABASE_URL=database_url))

        async def start_next() -> Serving:
            return await stack.enter_async_context(
                serve(*version.program, OUTCOMES_DATABASE_URL=database_url, **version.settings)
            )

        first, second = await start_this(), await start_this()
        migrated = await load_beside(checker, [first, second], migrate_to(version, database_url))
        assert (migrated.status, migrated.output) == (0, "The schema is up to date.\n"), migrated.errors
        # One of this version ends and comes again, on the schema of the next; and so does its command line.
        assert await load_beside(checker, [second], first.end(signal.SIGTERM)) == 0
        again = await load_beside(checker, [second], start_this())
        assert [line["event"] for line in again.log if "ahead" in line["event"]] == ["schema_ahead"]
        verified = await load_beside(
            checker, [again, second], run(OUTCOMES, "verify", OUTCOMES_DATABASE_URL=database_url)
        )
        assert verified.status == 0, verified.output
        # Both serve; and then only the next.
        newer = await load_beside(checker, [again, second], start_next())
        await checker.load([again.client, second.client, newer.client], A_WHILE)
        for older, others in ((again, [second, newer]), (second, [newer])):
            assert await load_beside(checker, others, older.end(signal.SIGTERM)) == 0
        for serving in (first, second, again, newer):
            # A group that meets the moment in which its function is replaced is written again.
            failed = [line for line in serving.log if line["level"] == "error" or "failed" in line["event"]]
            assert [line for line in failed if line["event"] != "group_write_failed"] == []
            assert len(failed) <= 1
        assert await newer.end(signal.SIGTERM) == 0
    assert checker.refused == checker.unknown == set()
    await checker.check(database_url)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM facts WHERE note = 'none'") == len(checker.acknowledged)
    assert await connection.fetchval("SELECT obj_description('attempt_slot'::regproc)") == "The next version's."
    assert await connection.fetchval("SELECT max(release) FROM schema_functions") == "99.0.0"
    await connection.close()


async def test_a_next_version_that_this_one_cannot_live_with_keeps_it_from_starting(
    database_url: str, tmp_path: Path
) -> None:
    version = NextVersion(tmp_path, is_compatible=False)
    assert (await migrate_to(version, database_url)).status == 0
    refused = await run(OUTCOMES, "serve", OUTCOMES_DATABASE_URL=database_url)
    assert (refused.status, "has 9001, 9002): run the newer version" in refused.errors) == (2, True), refused
    async with serve(*version.program, OUTCOMES_DATABASE_URL=database_url, **version.settings) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200


async def test_a_migration_that_breaks_this_version_is_seen(database_url: str, tmp_path: Path) -> None:
    await store_batch(database_url, RECIPIENTS)
    breaking = ADDS.replace("text NOT NULL DEFAULT 'none'", "text NOT NULL", 1)  # as the rules forbid
    version, checker = NextVersion(tmp_path, adds=breaking), Checker()
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        assert (await migrate_to(version, database_url)).status == 0
        await checker.send(serving.client, 1)
    with pytest.raises(AssertionError):
        await checker.check(database_url)

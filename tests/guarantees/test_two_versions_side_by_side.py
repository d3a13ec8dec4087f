"""An upgrade without downtime: this version and the next run side by side on one database, and nothing is refused or
lost. This version runs against the schema of the next one, even after restarts."""

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
BURST = 200

Result = TypeVar("Result")


async def load_during(checker: Checker, services: Sequence[Serving], action: Awaitable[Result]) -> Result:
    """Sends webhooks to the services in turn during ``action``, at least one burst."""
    task = asyncio.ensure_future(action)
    while True:
        await checker.load([serving.client for serving in services], BURST)
        if task.done():
            return await task


async def migrate_to(version: NextVersion, url: str) -> Finished:
    return await run(*version.program, "migrate", OUTCOMES_DATABASE_URL=url, **version.settings)


@pytest.mark.timeout(300)  # seven processes start in sequence
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
        migrated = await load_during(checker, [first, second], migrate_to(version, database_url))
        assert (migrated.status, migrated.output) == (0, "The schema is up to date.\n"), migrated.errors
        # A service of this version restarts on the schema of the next, and its command line works too.
        assert await load_during(checker, [second], first.end(signal.SIGTERM)) == 0
        again = await load_during(checker, [second], start_this())
        assert [line["event"] for line in again.log if "ahead" in line["event"]] == ["schema_ahead"]
        verified = await load_during(
            checker, [again, second], run(OUTCOMES, "verify", OUTCOMES_DATABASE_URL=database_url)
        )
        assert verified.status == 0, verified.output
        # Both versions serve, then only the next one.
        newer = await load_during(checker, [again, second], start_next())
        await checker.load([again.client, second.client, newer.client], BURST)
        for older, others in ((again, [second, newer]), (second, [newer])):
            assert await load_during(checker, others, older.end(signal.SIGTERM)) == 0
        for serving in (first, second, again, newer):
            # A group that meets the replacement of its function is written again.
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


async def test_this_version_does_not_start_on_an_incompatible_next_schema(database_url: str, tmp_path: Path) -> None:
    version = NextVersion(tmp_path, is_compatible=False)
    assert (await migrate_to(version, database_url)).status == 0
    refused = await run(OUTCOMES, "serve", OUTCOMES_DATABASE_URL=database_url)
    assert (refused.status, "has 9001, 9002): run the newer version" in refused.errors) == (2, True), refused
    async with serve(*version.program, OUTCOMES_DATABASE_URL=database_url, **version.settings) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200


async def test_a_migration_that_breaks_this_version_is_detected(database_url: str, tmp_path: Path) -> None:
    await store_batch(database_url, RECIPIENTS)
    breaking = ADDS.replace("text NOT NULL DEFAULT 'none'", "text NOT NULL", 1)  # which the rules forbid
    version, checker = NextVersion(tmp_path, adds=breaking), Checker()
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        assert (await migrate_to(version, database_url)).status == 0
        await checker.send(serving.client, 1)
    with pytest.raises(AssertionError):
        await checker.check(database_url)

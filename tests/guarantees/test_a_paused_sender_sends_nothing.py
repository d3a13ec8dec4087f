"""A replica that pauses between committing that it will send and sending sends nothing once others have moved on."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from service.uploads.lease import CONFIRM_SECONDS, SENDING_SECONDS, Instant, SendLease, read_clocks
from tests.eventually import eventually
from tests.factories import store_batch
from tests.guarantees.stopped_uploads import BLOCK, UNBLOCK, WEEK_SECONDS, provider, wait_for_block, wait_for_step
from tests.processes import Serving, serve
from tests.provider import KEY, find_free_port, upload


async def count_dials(sandbox: RunningSandbox) -> Counter[str]:
    """Plays all calls; returns how often each phone was dialled for the first time."""
    await sandbox.sandbox.advance(WEEK_SECONDS)
    return Counter(
        recipient["phone"]
        for batch_id in sandbox.sandbox.records.batches
        for recipient in sandbox.sandbox.recipients(batch_id)
        for attempt in recipient["attempts"]
        if attempt["number"] == 1
    )


@asynccontextmanager
async def paused(
    connection: asyncpg.Connection, serving: Serving, send: Callable[[], Awaitable[httpx.Response]]
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A sender paused after committing 'uploading' and before its request; it resumes at the end of the block."""
    await connection.execute(BLOCK.format(state="uploading"))
    await connection.execute("SELECT pg_advisory_lock(42)")
    trying: asyncio.Task[Any] = asyncio.ensure_future(send())
    await wait_for_step(asyncio.create_task(wait_for_block(connection)), trying)
    os.kill(serving.process.pid, signal.SIGSTOP)
    try:
        await connection.execute("SELECT pg_advisory_unlock(42)")
        await eventually(lambda: connection.fetchval("SELECT count(*) FROM batches WHERE upload_state = 'uploading'"))
        await connection.execute(UNBLOCK)
        await connection.execute("UPDATE batches SET leased_until = now() - interval '1 second'")
        yield trying
    finally:
        os.kill(serving.process.pid, signal.SIGCONT)


async def declare_not_sent(client: httpx.AsyncClient) -> int:
    """Waits until an upload is unknown, and resolves it as not sent; returns its id."""
    listed = await eventually(
        lambda: client.get("/v1/uploads", params={"state": "unknown"}), lambda answer: answer.json()["data"]
    )
    (row,) = listed.json()["data"]
    answer = await client.post(f"/v1/uploads/{row['upload_id']}/resolve", json={"not_sent": True})
    assert answer.status_code == 200, answer.text
    return int(row["upload_id"])


async def test_a_sender_that_resumes_after_its_upload_was_repeated_sends_nothing(database_url: str) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url, "FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY,
        }  # fmt: skip
        connection = await asyncpg.connect(database_url)
        async with serve(**settings, OUTCOMES_PORT=str(port)) as sleeper, serve(**settings) as replica:
            async with paused(connection, sleeper, lambda: upload(sleeper.client, key="one-campaign")) as trying:
                given_up = await declare_not_sent(replica.client)
                assert (await upload(replica.client, key="one-campaign")).status_code == 200
            answer = await trying
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
            assert "nothing was sent" in answer.json()["error"]["message"]
            row = (await replica.client.get(f"/v1/uploads/{given_up}")).json()["data"]
            assert (row["state"], row["detail"]) == ("failed", "declared not sent")
            assert set((await count_dials(sandbox)).values()) == {1}
        await connection.close()


async def test_a_promotion_that_resumes_while_it_is_being_repeated_sends_nothing(database_url: str) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url, "FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY,
        }  # fmt: skip
        connection = await asyncpg.connect(database_url)
        async with serve(**settings, OUTCOMES_PORT=str(port)) as sleeper, serve(**settings) as replica:
            test = (await upload(replica.client, test_recipients="1")).json()["data"]["id"]
            promote = f"/v1/batch-calls/{test}/promote"
            async with paused(connection, sleeper, lambda: sleeper.client.post(promote)) as trying:
                await declare_not_sent(replica.client)
                sandbox.sandbox.faults.next_upload = "hang"
                again = asyncio.create_task(replica.client.post(promote))
                await eventually(lambda: len(sandbox.sandbox.records.batches) >= 2)
            assert (await trying).status_code == 503
            assert await connection.fetchval("SELECT count(*) FROM batches WHERE upload_state = 'uploading'") == 1
            sandbox.sandbox.faults.release()
            assert (await again).status_code == 200
            assert set((await count_dials(sandbox)).values()) == {1}
        await connection.close()


class Clocks:
    """Two clocks that the test sets."""

    def __init__(self) -> None:
        self.now = Instant(1000.0, 2_000_000.0)

    def __call__(self) -> Instant:
        return self.now

    def move(self, since_boot: float, wall: float) -> None:
        self.now = Instant(self.now.since_boot + since_boot, self.now.wall + wall)


async def begin_sending(database: Database, clocks: Clocks) -> SendLease:
    key = await store_batch(database.url, batch_id=None)
    await database.pool.execute("UPDATE batches SET upload_state = 'prepared'")
    lease = SendLease(database, [key], clocks)
    assert not lease.holds()
    assert await lease.begin_sending() is not None
    return lease


@pytest.mark.parametrize(
    ("since_boot", "wall", "holds"),
    [
        (0.0, 0.0, True),
        (SENDING_SECONDS - 0.1, SENDING_SECONDS - 0.1, True),
        (SENDING_SECONDS, 0.0, False),  # the wall clock was set back during the pause
        (0.0, SENDING_SECONDS, False),  # a virtual machine was restored from a snapshot: its other clock stood still
        (3600.0, 3600.0, False),
    ],
)
async def test_the_right_to_send_expires_by_either_clock(
    database: Database, since_boot: float, wall: float, *, holds: bool
) -> None:
    clocks = Clocks()
    lease = await begin_sending(database, clocks)
    clocks.move(since_boot, wall)
    assert lease.holds() == holds


@pytest.mark.parametrize("is_renewed", [False, True])
async def test_the_lease_lasts_twice_as_long_as_the_right_to_send(database: Database, *, is_renewed: bool) -> None:
    """The rest covers a pause that no clock shows: between the last check and the write."""
    clocks = Clocks()
    lease = await begin_sending(database, clocks)
    if is_renewed:
        await database.pool.execute("UPDATE batches SET leased_until = now()")
        await lease.confirm()
    left = await database.pool.fetchval("SELECT extract(epoch FROM leased_until - clock_timestamp()) FROM batches")
    latest = float(left) / 2 - CONFIRM_SECONDS
    clocks.move(latest, latest)
    assert not lease.holds()


async def test_a_renewal_extends_the_right_to_send_from_the_time_of_the_request(database: Database) -> None:
    clocks = Clocks()
    lease = await begin_sending(database, clocks)
    clocks.move(SENDING_SECONDS + 1, SENDING_SECONDS + 1)
    assert not lease.holds()
    await lease.confirm()  # late, but still unsettled
    assert lease.holds()


@pytest.mark.parametrize("change", ["upload_state = 'unknown'", "upload_state = 'failed'", "sent_at = sent_at + '1 s'"])
async def test_the_right_to_send_ends_for_good_once_another_replica_has_settled_the_upload(
    database: Database, change: str
) -> None:
    lease = await begin_sending(database, Clocks())
    await database.pool.execute(f"UPDATE batches SET {change}")
    await lease.confirm()
    assert not lease.holds()
    await database.pool.execute("UPDATE batches SET upload_state = 'uploading'")
    await lease.confirm()
    assert not lease.holds()


async def test_while_the_database_is_away_the_clocks_decide_on_the_right_to_send(database: Database) -> None:
    clocks = Clocks()
    lease = await begin_sending(database, clocks)
    await database.pool.close()
    await lease.confirm()
    assert lease.holds()
    clocks.move(SENDING_SECONDS, SENDING_SECONDS)
    await lease.confirm()
    assert not lease.holds()


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the monotonic clock counts sleep, or the wall clock does"
)
def test_the_clock_of_the_lease_runs_while_the_machine_sleeps() -> None:
    asked = read_clocks().since_boot
    assert asked <= time.clock_gettime(time.CLOCK_BOOTTIME) <= asked + 60
    assert SendLease.__init__.__defaults__ == (read_clocks,)

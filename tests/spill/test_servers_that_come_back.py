"""Servers that come back: their settings, and those of the stream, are checked before anything goes there."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from service.app import prepare_schema
from service.errors import ConfigurationError
from service.spill.codec import Part
from service.spill.servers import check_servers
from service.spill.stream import STREAM, SpillError, Stream
from tests.conftest import create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook
from tests.nats import run_nats
from tests.postgres import PostgresServer
from tests.processes import serve

BODY_BYTES = 2**20
SOON_SECONDS = 30.0
NOWHERE = "postgresql://postgres@127.0.0.1:1/outcomes"


@asynccontextmanager
async def keep_checked(stream: Stream) -> AsyncIterator[asyncio.Task[None]]:
    """An open stream that is checked again and again, as the service does, until the block ends."""
    await stream.open()
    checking = asyncio.create_task(stream.keep_checked())
    try:
        yield checking
    finally:
        checking.cancel()
        await stream.close()  # which ends it too: the client's wait_for() may swallow a cancellation before Python 3.12
        await asyncio.gather(checking, return_exceptions=True)


async def test_a_server_that_comes_back_with_another_setting_is_refused_although_another_one_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.spill.stream.CHECK_SECONDS", 0.2)
    async with run_nats(3) as cluster:
        connected, other, _ = cluster.servers
        stream = Stream(3 * [connected.url], max_body_bytes=BODY_BYTES)
        async with keep_checked(stream) as checking:
            other.kill()
            other.configure(sync="2m")
            other.start()
            with pytest.raises(ConfigurationError, match=f"{other.name} acknowledges before it writes to disk"):
                await asyncio.wait_for(checking, SOON_SECONDS)
            assert not stream.is_ready


async def test_a_stream_that_is_edited_so_that_it_may_lose_webhooks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.spill.stream.CHECK_SECONDS", 0.2)
    async with run_nats() as cluster:
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        async with keep_checked(stream) as checking, cluster.connect() as client:
            config = (await client.jetstream().stream_info(STREAM)).config
            config.max_age = 600.0
            await client.jetstream().update_stream(config)
            with pytest.raises(ConfigurationError, match="it needs no max_age"):
                await asyncio.wait_for(checking, SOON_SECONDS)
            assert not stream.is_ready


async def describes_stream(client: Client) -> bool:
    """Whether a server describes the stream, which it also does without a leader after some seconds."""
    with contextlib.suppress(nats.errors.Error):
        await client.jetstream(timeout=1).stream_info(STREAM)
        return True
    return False


async def test_a_stream_that_has_lost_its_majority_cannot_be_used_until_it_has_one_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.spill.stream.CHECK_SECONDS", 0.2)
    async with run_nats(3) as cluster:
        connected, *others = cluster.servers
        stream = Stream(3 * [connected.url], max_body_bytes=BODY_BYTES)
        async with keep_checked(stream):
            for server in others:
                server.kill()
            await eventually(lambda: not stream.is_ready, seconds=SOON_SECONDS)
            async with cluster.connect() as client:
                await eventually(lambda: describes_stream(client), seconds=SOON_SECONDS)
            await asyncio.sleep(1)
            assert not stream.is_ready
            for server in others:
                server.start()
            await eventually(lambda: stream.is_ready, seconds=SOON_SECONDS)
            await stream.publish(Part(b"a", 1))


async def test_a_server_that_was_checked_and_says_nothing_for_some_seconds_is_not_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.spill.stream.CHECK_SECONDS", 0.2)
    monkeypatch.setattr("service.spill.servers.ANSWER_SECONDS", 0.2)
    async with run_nats() as cluster:
        (server,) = cluster.servers
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        async with keep_checked(stream) as checking:
            server.signal(signal.SIGSTOP)
            await asyncio.sleep(1.5)
            server.signal(signal.SIGCONT)
            await eventually(lambda: stream.is_ready)
            await stream.publish(Part(b"a", 1))
            assert not checking.done()


async def test_nothing_goes_to_servers_that_are_connected_again_before_they_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def check(*given: Any, **options: Any) -> str:
        asked.set()
        await answered.wait()
        return await check_servers(*given, **options)

    async with run_nats() as cluster:
        (server,) = cluster.servers
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        async with keep_checked(stream):
            monkeypatch.setattr("service.spill.stream.check_servers", check)
            server.kill()
            server.start()
            await asyncio.wait_for(asked.wait(), SOON_SECONDS)
            with pytest.raises(SpillError, match="no checked connection"):
                await stream.publish(Part(b"a", 1))
            answered.set()
            await eventually(lambda: stream.is_ready)
            await stream.publish(Part(b"a", 1))


async def test_what_another_server_may_have_acknowledged_before_it_was_checked_is_not_acknowledged() -> None:
    async with run_nats() as cluster:
        (server,) = cluster.servers
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        await stream.open()
        server.signal(signal.SIGSTOP)
        publishing = asyncio.create_task(stream.publish(Part(b"a", 1)))
        await asyncio.sleep(0)
        await stream.note_lost()  # as the client does
        server.signal(signal.SIGCONT)
        with pytest.raises(SpillError, match="lost meanwhile"):
            await publishing
        await stream.close()


async def test_a_stream_that_was_lost_with_its_server_is_created_again() -> None:
    async with run_nats() as cluster:
        (server,) = cluster.servers
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        async with keep_checked(stream):
            lost = (await stream.read_state()).identity
            server.kill()
            server.lose_files()
            server.start()
            await eventually(lambda: not stream.is_ready)
            await eventually(lambda: stream.is_ready)
            await stream.publish(Part(b"a", 1))
            state = await stream.read_state()
            assert (state.messages, state.identity == lost) == (1, False)


async def test_a_replica_refuses_webhooks_and_says_why_until_a_server_writes_before_it_acknowledges() -> None:
    async with run_nats() as cluster:
        (server,) = cluster.servers
        async with serve(OUTCOMES_DATABASE_URL=NOWHERE, OUTCOMES_SPILL_URL=cluster.url) as replica:
            assert (await post_webhook(replica.client, make_payload())).status_code == 204
            server.kill()
            server.configure(sync="2m")
            server.start()
            refusals = await eventually(lambda: [line for line in replica.log if line["event"] == "spill_refused"])
            assert "n1 acknowledges before it writes to disk" in refusals[0]["reason"]
            assert (await replica.client.get("/readyz")).status_code == 503
            assert (await post_webhook(replica.client, make_payload())).status_code == 503
            server.kill()
            server.configure()
            server.start()
            await eventually(lambda: replica.client.get("/readyz"), lambda answer: answer.status_code == 200)
            assert (await post_webhook(replica.client, make_payload())).status_code == 204


async def test_what_is_put_into_a_stream_that_was_created_again_is_drained(own_postgres: PostgresServer) -> None:
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    async with run_nats() as cluster, serve(OUTCOMES_DATABASE_URL=url, OUTCOMES_SPILL_URL=cluster.url) as replica:
        (server,) = cluster.servers
        assert await read_metric(replica.client, "outcomes_spill_waiting_events") == 0
        server.kill()
        server.lose_files()
        server.start()
        await cluster.wait_until_drained()  # it is there again
        await asyncio.to_thread(own_postgres.stop, "immediate")
        assert (await post_webhook(replica.client, make_payload())).status_code == 204
        await asyncio.to_thread(own_postgres.start)
        await eventually(
            lambda: read_metric(replica.client, "outcomes_drained_events_total"), lambda drained: drained == 1
        )

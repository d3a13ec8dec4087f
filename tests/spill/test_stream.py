"""The stream on real servers: what is refused at the start, and what is stored."""

from contextlib import nullcontext
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from service.errors import ConfigurationError
from service.spill.codec import Part
from service.spill.stream import STREAM, SpillError, Stream
from tests.conftest import StartService
from tests.nats import run_nats

BODY_BYTES = 5 * 2**20


async def test_servers_that_acknowledge_before_they_write_are_refused(start_service: StartService) -> None:
    async with run_nats(sync="2m") as cluster:
        with pytest.raises(ConfigurationError, match=r"n1 acknowledges before it writes to disk"):
            async with start_service(OUTCOMES_SPILL_URL=cluster.url):
                pass
        async with start_service(OUTCOMES_SPILL_URL=cluster.url, OUTCOMES_ALLOW_UNSAFE_SPILL="1") as service:
            assert (await service.get("/readyz")).status_code == 200


async def test_one_of_three_servers_that_acknowledges_before_it_writes_is_refused() -> None:
    async with run_nats(3) as cluster:
        connected, other, _ = cluster.servers
        other.kill()
        other.configure(sync="2m")
        other.start()
        await cluster.wait_until_joined()
        stream = Stream(3 * [connected.url], max_body_bytes=BODY_BYTES)
        with pytest.raises(ConfigurationError, match="n2 acknowledges before it writes to disk"):
            await stream.open()


async def test_servers_that_cannot_take_the_largest_webhook_are_refused(start_service: StartService) -> None:
    async with run_nats() as cluster:
        with pytest.raises(ConfigurationError, match=r"raise max_payload there, or lower OUTCOMES_MAX_BODY_BYTES"):
            async with start_service(OUTCOMES_SPILL_URL=cluster.url, OUTCOMES_MAX_BODY_BYTES=str(9 * 2**20)):
                pass


@pytest.mark.parametrize(
    ("setting", "need"),
    [
        ({"max_age": 60.0}, "no max_age"),
        ({"discard": DiscardPolicy.OLD}, "discard new"),
        ({"max_msgs_per_subject": 1}, "no max_msgs_per_subject"),
        ({"storage": StorageType.MEMORY}, "file storage"),
        ({"retention": RetentionPolicy.LIMITS}, "workqueue retention"),
        ({"max_bytes": 10_000_000, "max_msgs": 10}, None),
    ],
)
async def test_a_stream_that_may_lose_what_it_took_is_refused(setting: dict[str, Any], need: str | None) -> None:
    config = {"retention": RetentionPolicy.WORK_QUEUE, "discard": DiscardPolicy.NEW, **setting}
    async with run_nats() as cluster:
        async with cluster.connect() as client:
            await client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=["outcomes.spill.*"], **config))
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        refused = pytest.raises(ConfigurationError, match=f"it needs {need}. Correct it") if need else nullcontext()
        with refused:
            await stream.open()
        await stream.close()


async def test_a_stream_with_fewer_replicas_than_servers_is_refused() -> None:
    async with run_nats(3) as cluster:
        async with cluster.connect() as client:
            config: dict[str, Any] = {"retention": RetentionPolicy.WORK_QUEUE, "discard": DiscardPolicy.NEW}
            await client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=["outcomes.spill.*"], **config))
        stream = Stream(cluster.url.split(","), max_body_bytes=BODY_BYTES)
        with pytest.raises(ConfigurationError, match=r"it needs 3 replicas\. Correct it"):
            await stream.open()


async def test_the_same_message_is_stored_once_and_counted_by_its_events() -> None:
    async with run_nats() as cluster:
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        await stream.open()
        await stream.publish(Part(b"a", 3))
        await stream.publish(Part(b"a", 3))
        await stream.publish(Part(b"b", 4))
        state = await stream.read_state()
        assert (state.messages, state.events) == (2, 7)
        assert state.oldest_at is not None
        await stream.begin_fetching()
        fetched = await stream.fetch(10, 1.0)
        assert sorted((each.payload, each.events) for each in fetched) == [(b"a", 3), (b"b", 4)]
        await stream.begin_fetching()  # as a new holder of the lease does
        again = await stream.fetch(10, 1.0)
        assert len(again) == 2
        for each in again:
            await each.acknowledge()
        assert (await stream.read_state()).messages == 0
        await stream.close()


async def fill(stream: Stream) -> None:
    """Stores ten times half of what fits."""
    for number in range(10):
        await stream.publish(Part(bytes([number]) * 600_000, 1))


async def test_a_full_stream_refuses_and_keeps_what_it_has() -> None:
    async with run_nats(size="1MB") as cluster:
        stream = Stream([cluster.url], max_body_bytes=BODY_BYTES)
        await stream.open()
        with pytest.raises(SpillError):
            await fill(stream)
        assert (await stream.read_state()).messages > 0
        await stream.close()

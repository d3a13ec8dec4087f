"""Consumers of the feed: they acknowledge forwards, within the feed, and their lag is shown."""

import asyncio
from typing import Any

import httpx
import pytest

from service.feed.consumers import Consumers, LagWatch
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.eventually import eventually
from tests.factories import decode, make_payload, post_webhook, store_batch
from tests.feed.feeding import read_on, read_page
from tests.webhooks.ingesting import ingest

PATH = "/v1/feed/consumers"


async def put(service: httpx.AsyncClient, name: str, position: Any, **more: Any) -> httpx.Response:
    """Acknowledges."""
    return await service.put(f"{PATH}/{name}", json={"position": position, **more})


async def fill(database: Database, recipients: int) -> list[int]:
    """Makes this number of changes; returns their positions."""
    await store_batch(database.url, recipients)
    await ingest(database, *decode(*(make_payload(recipient=n + 1) for n in range(recipients))))
    return [row["position"] for row in await database.pool.fetch("SELECT position FROM outcomes ORDER BY position")]


async def test_a_consumer_reads_on_from_what_it_has_acknowledged(
    service: httpx.AsyncClient, database: Database
) -> None:
    positions = await fill(database, 5)
    assert (await put(service, "crm", 0)).status_code == 200
    page = await read_page(service, consumer="crm", limit=2)
    assert [entry["position"] for entry in page["data"]] == positions[:2]
    assert (await read_page(service, consumer="crm", limit=2)) == page
    answer = await put(service, "crm", page["next"])
    shown = answer.json()["data"]
    assert (shown["name"], shown["position"], shown["last_position"]) == ("crm", positions[1], positions[-1])
    assert (shown["lag"], shown["is_lag_exact"]) == (3, True)
    assert shown["created_at"] < shown["acknowledged_at"]
    page = await read_page(service, consumer="crm")
    assert [entry["position"] for entry in page["data"]] == positions[2:]
    await put(service, "crm", page["next"])
    shown = (await service.get(f"{PATH}/crm")).json()["data"]
    assert (shown["lag"], shown["behind_since"]) == (0, None)


async def test_lag_counts_entries_until_that_would_cost_and_then_distance(database: Database) -> None:
    positions = await fill(database, 8)
    consumers = Consumers(database, counted=5)
    await ingest(database, *decode(make_payload(recipient=8, attempt=2)))
    await consumers.acknowledge("near", positions[2], is_reset=False)
    near = await consumers.get("near")
    assert (near["lag"], near["is_lag_exact"]) == (5, True)
    await consumers.acknowledge("far", positions[1], is_reset=False)
    far = await consumers.get("far")
    assert (far["lag"], far["is_lag_exact"]) == (7, False)  # six entries; one of them changed twice
    changed_at = await database.pool.fetchval("SELECT changed_at FROM outcomes WHERE position = $1", positions[2])
    assert far["behind_since"] == changed_at


async def test_acknowledging_backwards_takes_a_reset(service: httpx.AsyncClient, database: Database) -> None:
    positions = await fill(database, 3)
    await put(service, "crm", positions[1])
    assert (await put(service, "crm", positions[1])).status_code == 200
    refused = await put(service, "crm", positions[0])
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "conflict")
    assert refused.json()["error"]["message"].startswith(f"position: {positions[0]} is behind {positions[1]}")
    assert (await service.get(f"{PATH}/crm")).json()["data"]["position"] == positions[1]
    assert (await put(service, "crm", positions[0], reset=True)).status_code == 200
    assert (await service.get(f"{PATH}/crm")).json()["data"]["position"] == positions[0]


async def test_acknowledging_beyond_the_end_is_refused(service: httpx.AsyncClient, database: Database) -> None:
    positions = await fill(database, 3)
    for more in ({}, {"reset": True}):
        refused = await put(service, "crm", positions[-1] + 1, **more)
        assert (refused.status_code, refused.json()["error"]["type"]) == (409, "conflict")
        assert f"beyond the end of the feed ({positions[-1]})" in refused.json()["error"]["message"]
    assert (await service.get(f"{PATH}/crm")).status_code == 404


async def test_a_position_cannot_be_acknowledged_before_its_commit_is_visible(database: Database) -> None:
    positions = await fill(database, 3)
    consumers = Consumers(database)
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        (event,) = decode(make_payload(recipient=1, attempt=2))
        await database.queries.ingest(connection, **{name: [value] for name, value in event._asdict().items()})
        early = asyncio.create_task(consumers.acknowledge("crm", positions[-1] + 1, is_reset=False))
        await eventually(lambda: database.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        await transaction.commit()
    with pytest.raises(Exception, match="beyond the end"):
        await early
    await consumers.acknowledge("crm", positions[-1] + 1, is_reset=False)


async def test_what_was_seen_and_is_gone_can_be_acknowledged(database: Database) -> None:
    positions = await fill(database, 3)
    await database.pool.execute("DELETE FROM outcomes WHERE position = $1", positions[-1])
    await Consumers(database).acknowledge("crm", positions[-1], is_reset=False)


async def test_consumers_are_listed_and_forgotten(service: httpx.AsyncClient) -> None:
    for name in ("b", "a", "X.y_z-0"):
        assert (await put(service, name, 0)).status_code == 200
    listed = (await service.get(PATH)).json()
    assert [row["name"] for row in listed["data"]] == ["X.y_z-0", "a", "b"]
    assert (listed["next"], listed["has_more"]) == (None, False)
    assert (await service.delete(f"{PATH}/a")).status_code == 204
    for answer in (
        await service.delete(f"{PATH}/a"),
        await service.get(f"{PATH}/a"),
        await service.get("/v1/feed", params={"consumer": "a"}),
    ):
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["a" * 65, "with space", "käse", "a%2Fb", "a%00"])
async def test_a_name_that_cannot_be_one_is_refused(service: httpx.AsyncClient, name: str) -> None:
    answer = await put(service, name, 0)
    assert answer.status_code in {400, 404}  # a slash makes it another path
    assert (await service.get(PATH)).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{}", "position"),
        (b'{"position": -1}', "$.position"),
        (b'{"position": "1"}', "$.position"),
        (b'{"position": 1.5}', "$.position"),
        (b'{"position": 9223372036854775808}', "$.position"),
        (b'{"position": 0, "rest": true}', "rest"),
        (b'{"position": 0, "reset": "yes"}', "$.reset"),
    ],
)
async def test_a_body_that_cannot_be_read_says_why(service: httpx.AsyncClient, body: bytes, expected: str) -> None:
    answer = await service.put(f"{PATH}/crm", content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
    assert expected in answer.json()["error"]["message"]


async def test_a_large_body_is_not_read(service: httpx.AsyncClient) -> None:
    answer = await service.put(f"{PATH}/crm", content=b" " * 100_000)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request")


async def test_there_are_so_many_consumers_and_no_more(database: Database) -> None:
    consumers = Consumers(database, max_consumers=3)
    begun = await asyncio.gather(
        *(consumers.acknowledge(f"c{n}", 0, is_reset=False) for n in range(6)), return_exceptions=True
    )
    assert sum(outcome is None for outcome in begun) == 3
    kept = [row["name"] for row in await consumers.list()]
    assert len(kept) == 3
    await consumers.acknowledge(kept[0], 0, is_reset=False)
    await consumers.forget(kept[0])
    await consumers.acknowledge("another", 0, is_reset=False)


async def test_lag_is_a_metric_for_as_long_as_there_is_the_consumer(database: Database) -> None:
    positions = await fill(database, 4)
    consumers, metrics = Consumers(database), Metrics()
    await consumers.acknowledge("crm", positions[0], is_reset=False)
    await consumers.acknowledge("bi", positions[-1], is_reset=False)
    watch = LagWatch(consumers, metrics)
    await watch.refresh()
    read = metrics.registry.get_sample_value
    assert read("outcomes_feed_consumer_lag", {"consumer": "crm"}) == 3
    assert read("outcomes_feed_consumer_lag", {"consumer": "bi"}) == 0
    assert (read("outcomes_feed_consumer_lag_seconds", {"consumer": "crm"}) or 0) > 0
    assert read("outcomes_feed_consumer_lag_seconds", {"consumer": "bi"}) == 0
    await consumers.forget("crm")
    await watch.refresh()
    assert read("outcomes_feed_consumer_lag", {"consumer": "crm"}) is None
    assert read("outcomes_feed_consumer_lag_seconds", {"consumer": "crm"}) is None


async def test_a_consumer_at_rest_is_woken_by_the_next_change(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await put(service, "crm", 0)
    waiting = asyncio.create_task(read_page(service, consumer="crm", wait=30))
    await post_webhook(service, make_payload())
    assert [entry["recipient"] for entry in (await waiting)["data"]] == [1]
    assert len(await read_on(service)) == 1


async def test_a_consumer_stalled_for_an_hour_raises_an_alarm_until_it_continues(
    service: httpx.AsyncClient, database: Database
) -> None:
    positions = await fill(database, 2)
    await put(service, "crm", positions[0])
    await put(service, "bi", positions[1])

    async def list_alarms() -> list[tuple[str, int]]:
        return [(alarm["name"], alarm["count"]) for alarm in (await service.get("/v1/alarms")).json()["data"]]

    assert await list_alarms() == []
    await database.pool.execute("UPDATE outcomes SET changed_at = now() - interval '61 minutes'")
    assert await list_alarms() == [("feed_consumer_lagging", 1)]
    await put(service, "crm", positions[1])
    assert await list_alarms() == []


async def test_a_tag_is_kept_with_the_position_until_another_comes(
    service: httpx.AsyncClient, database: Database
) -> None:
    positions = await fill(database, 3)
    assert (await put(service, "crm", 0)).json()["data"]["tag"] is None
    assert (await put(service, "crm", positions[0], tag="sha256:1")).json()["data"]["tag"] == "sha256:1"
    assert (await put(service, "crm", positions[1])).json()["data"]["tag"] == "sha256:1"
    assert (await put(service, "crm", positions[0], tag="sha256:2")).status_code == 409
    assert [each["tag"] for each in (await service.get(PATH)).json()["data"]] == ["sha256:1"]
    assert (await put(service, "crm", 0, reset=True, tag="sha256:2")).json()["data"]["tag"] == "sha256:2"
    assert (await put(service, "other", 0, tag="x")).json()["data"]["tag"] == "x"


@pytest.mark.parametrize("tag", ["", "x" * 201, "two words", "नमस्ते", "\u0000", 1])
async def test_a_tag_that_cannot_be_kept_is_refused_by_its_name(service: httpx.AsyncClient, tag: Any) -> None:
    refused = await put(service, "crm", 0, tag=tag)
    assert refused.status_code == 400
    assert "tag" in refused.json()["error"]["message"]

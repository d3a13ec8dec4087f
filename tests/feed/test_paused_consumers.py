"""Pausing a consumer of the feed, and counting what it would read again."""

import httpx

from service.store.database import Database
from tests.conftest import StartService
from tests.factories import decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest


async def test_a_paused_consumer_is_asked_to_come_again_and_loses_nothing(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1), make_payload(recipient=2)))
    async with start_service() as service:
        await service.put("/v1/feed/consumers/crm", json={"position": 1})
        paused = await service.post("/v1/feed/consumers/crm/pause")
        assert paused.status_code == 200
        assert paused.json()["data"]["paused_at"] is not None
        again = await service.post("/v1/feed/consumers/crm/pause")
        assert again.json()["data"]["paused_at"] == paused.json()["data"]["paused_at"]
        refused = await service.get("/v1/feed", params={"consumer": "crm"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert "/v1/feed/consumers/crm/resume" in refused.json()["error"]["message"]
        acknowledged = await service.put("/v1/feed/consumers/crm", json={"position": 2})
        assert acknowledged.json()["data"]["paused_at"] is not None, "acknowledging does not end the pause"
        await service.put("/v1/feed/consumers/crm", json={"position": 1, "reset": True})
        resumed = await service.post("/v1/feed/consumers/crm/resume")
        assert resumed.json()["data"]["paused_at"] is None
        read = (await service.get("/v1/feed", params={"consumer": "crm"})).json()
        assert [entry["position"] for entry in read["data"]] == [2]
        lines = (await service.get("/v1/audit")).json()["data"]
    assert [(line["action"], line["subject"]) for line in reversed(lines)] == [
        ("consumer_paused", "consumer crm"),
        ("consumer_paused", "consumer crm"),
        ("consumer_reset", "consumer crm"),
        ("consumer_resumed", "consumer crm"),
    ]
    assert lines[1]["details"] == {"position": 1, "before": 2}


async def test_only_known_consumers_are_paused(service: httpx.AsyncClient) -> None:
    for action in ("pause", "resume"):
        assert (await service.post(f"/v1/feed/consumers/nobody/{action}")).status_code == 404
        assert (await service.post(f"/v1/feed/consumers/no%20name/{action}")).status_code == 400
    assert (await service.get("/v1/audit")).json()["data"] == []


async def test_a_count_names_the_entries_after_a_position(start_service: StartService, database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(*(make_payload(recipient=number) for number in (1, 2, 3))))
    async with start_service() as service:
        counted = [
            (await service.get("/v1/feed/count", params={"after": after})).json()["data"] for after in (0, 2, 3, 99)
        ]
    assert [each["entries"] for each in counted] == [3, 1, 0, 0]
    assert counted[0] == {"after": 0, "last_position": 3, "entries": 3, "is_exact": True}

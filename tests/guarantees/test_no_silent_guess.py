"""An event that fits no batch, or two, is shown as such and counts nowhere until it is decided."""

import httpx

from tests.factories import make_payload, phone_of, post_webhook, store_batch


async def read_processed(service: httpx.AsyncClient, batch_id: int) -> int:
    data = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
    processed: int = data["recipients"]["processed"]
    return processed


async def test_an_event_that_fits_two_batches_counts_in_neither(service: httpx.AsyncClient, database_url: str) -> None:
    for batch_id in (1, 2):
        await store_batch(database_url, 5, batch_id=batch_id, ref_token=None)
    await post_webhook(service, make_payload(recipient=None, phone=phone_of(3), parameters={}, event_id="which"))
    assert (await service.get("/v1/events/which")).json()["data"]["disposition"] == "unattributed"
    listed = (await service.get("/v1/unattributed")).json()["data"]
    assert [(row["event_id"], row["reason"]) for row in listed] == [("which", "ambiguous")]
    assert [await read_processed(service, batch_id) for batch_id in (1, 2)] == [0, 0]


async def test_an_event_that_fits_no_batch_waits_and_is_counted_once_its_batch_exists(
    service: httpx.AsyncClient, database_url: str
) -> None:
    payload = make_payload(recipient=3, event_id="early")
    await post_webhook(service, payload)
    listed = (await service.get("/v1/unattributed")).json()["data"]
    assert [(row["event_id"], row["reason"]) for row in listed] == [("early", "no_batch")]

    await store_batch(database_url, 5)
    await post_webhook(service, payload)  # delivering an event again retries it
    assert (await service.get("/v1/events/early")).json()["data"]["disposition"] == "applied"
    assert (await service.get("/v1/unattributed")).json()["data"] == []
    assert await read_processed(service, 456) == 1


async def test_every_number_comes_with_a_verdict_and_its_time(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url, 5)
    data = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert data["verdict"] == "unverified"
    assert data["as_of"]
    assert data["last_event_at"] is None
    await post_webhook(service, make_payload(recipient=1))
    data = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert data["last_event_at"] < data["as_of"]

"""The receiver's answers to good and bad input."""

import httpx

from tests.factories import make_payload, post_webhook, store_batch


async def test_a_signed_event_is_acknowledged_and_counted(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    answer = await post_webhook(service, make_payload(recipient=3, event_id="first"))
    assert answer.status_code == 204
    event = (await service.get("/v1/events/first")).json()["data"]
    assert (event["disposition"], event["batch_id"], event["recipient"]) == ("applied", 456, 3)
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"] == {"total": 10, "processed": 1, "in_progress": 9, "pending_retry": 0}
    assert outcomes["statuses"]["completed"] == 1
    assert outcomes["results"]["intent"]["values"] == {"promise_to_pay": 1}
    assert outcomes["verdict"] == "unverified"

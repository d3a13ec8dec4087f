"""Who may send webhooks, and what becomes of a good one, of a second delivery, and of one id with two bodies."""

from pathlib import Path

import httpx
import pytest

from service.errors import ConfigurationError
from service.formant.signature import SIGNATURE_HEADER, sign
from service.store.database import Database
from tests.conftest import SECRET, StartService
from tests.exposition import read_metric
from tests.factories import encode, make_payload, post_webhook, store_batch

PATH = "/webhooks/formant"


async def count_stored(database: Database) -> int:
    """Bodies in the ledger and in quarantine together."""
    count: int = await database.pool.fetchval(
        "SELECT (SELECT count(*) FROM event_bodies) + (SELECT count(*) FROM quarantine)"
    )
    return count


async def test_a_signed_event_is_acknowledged_and_counted(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    answer = await post_webhook(service, make_payload(recipient=3, event_id="first"))
    assert (answer.status_code, answer.content) == (204, b"")
    event = (await service.get("/v1/events/first")).json()["data"]
    assert (event["disposition"], event["batch_id"], event["recipient"]) == ("applied", 456, 3)
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"] == {"total": 10, "processed": 1, "in_progress": 9, "pending_retry": 0}
    assert outcomes["statuses"]["completed"] == 1
    assert outcomes["results"]["intent"]["values"] == {"promise_to_pay": 1}
    assert outcomes["verdict"] == "unverified"
    assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="stored") == 1
    assert await read_metric(service, "outcomes_events_total", disposition="applied") == 1


BODY = encode(make_payload(event_id="unwanted"))
HEADER = SIGNATURE_HEADER.encode()
FORGED: dict[str, dict[bytes, bytes]] = {
    "no signature": {},
    "an empty one": {HEADER: b""},
    "another secret's": {HEADER: sign(BODY, "another-secret").encode()},
    "another body's": {HEADER: sign(BODY + b" ", SECRET).encode()},
    "the right digest under another name": {HEADER: sign(BODY, SECRET).replace("sha256", "sha512").encode()},
    "the right one, cut short": {HEADER: sign(BODY, SECRET)[:-1].encode()},
    "bytes that are no ASCII": {HEADER: b"sha256=\xff\xfe"},
}


async def test_a_webhook_that_no_live_secret_signed_is_refused_and_leaves_nothing(
    service: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    for name, signature in FORGED.items():
        with subtests.test(name):
            answer = await service.post(PATH, content=BODY, headers=signature)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
            assert "FORMANT_WEBHOOK_SECRET" in answer.json()["error"]["message"]
    assert await count_stored(database) == 0
    webhooks = "outcomes_webhooks_total"
    assert await read_metric(service, webhooks, target="default", answer="authentication_error") == len(FORGED)
    assert await read_metric(service, webhooks, target="default", answer="stored") == 0


async def test_several_secrets_are_live_at_once_and_each_use_is_counted(start_service: StartService) -> None:
    async with start_service(FORMANT_WEBHOOK_SECRET="new-secret, old-secret") as service:
        for secret, uses in (("new-secret", 2), ("old-secret", 1)):
            for _ in range(uses):
                assert (await post_webhook(service, make_payload(), secret=secret)).status_code == 204
        assert (await post_webhook(service, make_payload(), secret="retired-secret")).status_code == 401
        used = "outcomes_webhook_secret_used_total"
        assert await read_metric(service, used, target="default", secret="1") == 2
        assert await read_metric(service, used, target="default", secret="2") == 1


async def test_without_a_secret_the_service_refuses_to_start(start_service: StartService) -> None:
    with pytest.raises(ConfigurationError, match="FORMANT_WEBHOOK_SECRET is empty"):
        async with start_service(FORMANT_WEBHOOK_SECRET=""):
            pass


async def test_a_secret_in_a_file_with_a_byte_order_mark_verifies_webhooks(
    start_service: StartService, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes(f"{SECRET}\r\n".encode(encoding))
        async with start_service(FORMANT_WEBHOOK_SECRET="", FORMANT_WEBHOOK_SECRET_FILE=str(path)) as service:
            assert (await post_webhook(service, make_payload())).status_code == 204


async def test_unsigned_webhooks_are_taken_only_where_they_were_allowed(start_service: StartService) -> None:
    async with start_service(FORMANT_WEBHOOK_SECRET="", OUTCOMES_ALLOW_UNSIGNED="1") as service:
        answer = await service.post(PATH, content=encode(make_payload(event_id="unsigned")))
        assert answer.status_code == 204
        assert (await service.get("/v1/events/unsigned")).json()["data"]["disposition"] == "unattributed"


async def test_allowing_unsigned_webhooks_opens_nothing_while_a_secret_is_set(start_service: StartService) -> None:
    async with start_service(OUTCOMES_ALLOW_UNSIGNED="1") as service:
        assert (await service.post(PATH, content=encode(make_payload()))).status_code == 401


async def test_only_post_sends_webhooks(service: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = await service.request(method, PATH)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json()["error"]["type"] == "invalid_request"
    answer = await service.head(PATH)
    assert (answer.status_code, answer.content) == (405, b"")


async def test_a_second_delivery_changes_nothing(
    service: httpx.AsyncClient, database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    body = encode(make_payload(recipient=1))
    for _ in range(3):
        assert (await post_webhook(service, body)).status_code == 204
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert (outcomes["recipients"]["processed"], outcomes["attempts"]["total"]) == (1, 1)
    assert await count_stored(database) == 1
    assert await read_metric(service, "outcomes_events_total", disposition="duplicate") == 2


async def test_a_known_id_with_another_body_is_kept_as_a_conflict_and_shown(
    service: httpx.AsyncClient, database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    first = make_payload(recipient=1, event_id="twice", conversation_id="the-call")
    second = make_payload(recipient=1, event_id="twice", conversation_id="the-call", results={"intent": "dispute"})
    for payload in (first, second, second, first):
        assert (await post_webhook(service, payload)).status_code == 204
    assert (await service.get("/v1/events/twice")).json()["data"]["conflicts"] == 1
    bodies = {row["body"] for row in await database.pool.fetch("SELECT body FROM event_bodies")}
    assert bodies == {encode(first), encode(second)}
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert (outcomes["recipients"]["processed"], outcomes["attempts"]["total"]) == (1, 1)
    assert await read_metric(service, "outcomes_events_total", disposition="conflict") == 1

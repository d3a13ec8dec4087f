"""Replay: a quarantined body goes its way again after a fix, once, and stays where it is while it cannot be used."""

import gzip
from pathlib import Path

import httpx
import pytest

from service.formant.signature import sign
from service.store.database import Database
from tests.conftest import SECRET, StartService
from tests.factories import UNSTORABLE_NUMBER, encode, make_payload, post_webhook, store_batch
from tests.guarantees.recount import verify
from tests.webhooks.quarantining import quarantine


async def test_what_still_cannot_be_read_stays_and_says_so(service: httpx.AsyncClient, database: Database) -> None:
    await post_webhook(service, b"no JSON")
    (row,) = (await service.get("/v1/quarantine")).json()["data"]
    for _ in range(2):
        answer = await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
    assert (await service.get("/v1/quarantine")).json()["data"] == [row]
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 0


async def test_what_the_database_still_refuses_stays_too(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    payload = make_payload(recipient=1, event_id="too-large")
    body = encode(payload).replace(b'"promise_to_pay"', UNSTORABLE_NUMBER)
    await post_webhook(service, body)
    (row,) = (await service.get("/v1/quarantine")).json()["data"]
    assert row["reason"] == "refused_by_database"
    assert (await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")).status_code == 400
    assert (await service.get("/v1/events/too-large")).json()["data"]["disposition"] == "quarantined"


async def test_after_a_fix_a_replay_brings_the_body_into_the_ledger_once(
    service: httpx.AsyncClient, database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    body = encode(make_payload(recipient=1, event_id="readable-now"))
    quarantine_id = await quarantine(database, body)
    answer = await service.post(f"/v1/quarantine/{quarantine_id}/replay")
    assert answer.status_code == 200
    assert answer.json() == {"data": {"quarantine_id": quarantine_id, "event_id": "readable-now"}}
    event = (await service.get("/v1/events/readable-now")).json()["data"]
    assert (event["disposition"], event["received_at"]) == ("applied", "2026-03-16T10:32:00Z")
    assert await database.pool.fetchval("SELECT body FROM event_bodies") == body
    assert (await service.get("/v1/quarantine")).json()["data"] == []

    again = await service.post(f"/v1/quarantine/{quarantine_id}/replay")
    assert (again.status_code, again.json()["error"]["type"]) == (404, "not_found")
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert (outcomes["recipients"]["processed"], outcomes["attempts"]["total"]) == (1, 1)


async def test_a_replay_of_what_came_again_in_the_meantime_counts_nothing_twice(
    service: httpx.AsyncClient, database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    body = encode(make_payload(recipient=1))
    quarantine_id = await quarantine(database, body)
    await post_webhook(service, body)
    assert (await service.post(f"/v1/quarantine/{quarantine_id}/replay")).status_code == 200
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert (outcomes["recipients"]["processed"], outcomes["attempts"]["total"]) == (1, 1)
    assert await database.pool.fetchval("SELECT count(*) FROM event_bodies") == 1


async def test_a_replay_of_nothing_is_not_found(service: httpx.AsyncClient) -> None:
    for quarantine_id in ("1", "0", "-1", "abc", "9" * 30):
        answer = await service.post(f"/v1/quarantine/{quarantine_id}/replay")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found"), quarantine_id


async def test_a_replay_works_on_a_service_whose_reference_column_has_changed(
    start_service: StartService, database: Database, database_url: str
) -> None:
    await store_batch(database_url)
    quarantine_id = await quarantine(database, encode(make_payload(recipient=1, event_id="other-column")))
    async with start_service(OUTCOMES_REF_COLUMN="") as service:
        assert (await service.post(f"/v1/quarantine/{quarantine_id}/replay")).status_code == 200
        assert (await service.get("/v1/events/other-column")).json()["data"]["method"] == "reference"


async def test_a_replay_does_not_let_in_an_agent_that_its_target_does_not(
    start_service: StartService, tmp_path: Path
) -> None:
    targets = tmp_path / "targets.toml"
    targets.write_text('[targets.india]\nsecrets = ["india-secret"]\nagents = [7]\n')
    async with start_service(OUTCOMES_TARGETS_FILE=str(targets)) as service:
        path = "/webhooks/formant/india"
        assert (await post_webhook(service, make_payload(), secret="india-secret", path=path)).status_code == 204
        (row,) = (await service.get("/v1/quarantine")).json()["data"]
        assert row["reason"] == "agent_not_allowed"
        assert (await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")).status_code == 400
    targets.write_text('[targets.india]\nsecrets = ["india-secret"]\nagents = [7, 123]\n')
    async with start_service(OUTCOMES_TARGETS_FILE=str(targets)) as service:
        assert (await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")).status_code == 200


@pytest.mark.parametrize(("secret", "is_signed"), [(SECRET, True), ("retired", False)])
async def test_a_body_that_could_not_be_decoded_is_decoded_by_a_replay_once_it_can_be(
    start_service: StartService, database: Database, database_url: str, secret: str, is_signed: bool
) -> None:
    await store_batch(database_url)
    payload = make_payload(recipient=1, event_id="decodable-now")
    payload["data"]["transcript"] = "HUMAN: yes\n" * 1000
    body = encode(payload)
    packed = gzip.compress(gzip.compress(body))
    async with start_service(OUTCOMES_MAX_BODY_BYTES="5000", FORMANT_WEBHOOK_SECRET=secret) as service:
        headers = {"Content-Encoding": "gzip, gzip"}
        assert (await post_webhook(service, packed, secret=secret, **headers)).status_code == 204
        (row,) = (await service.get("/v1/quarantine")).json()["data"]
        assert (row["reason"], row["detail"]) == ("undecodable", "gzip, gzip")
        assert (await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")).status_code == 400
    async with start_service() as service:
        assert (await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")).status_code == 200
        assert (await service.get("/v1/events/decodable-now")).json()["data"]["disposition"] == "applied"
    kept = await database.pool.fetchrow("SELECT body, signature FROM event_bodies")
    assert kept is not None
    assert kept["body"] == body
    assert kept["signature"] == (bytes.fromhex(sign(body, SECRET).removeprefix("sha256=")) if is_signed else None)
    assert await verify(database) == []


async def test_a_compressed_body_that_was_not_named_so_is_decoded_by_a_replay(
    service: httpx.AsyncClient, database: Database
) -> None:
    body = encode(make_payload(event_id="not-named"))
    quarantine_id = await quarantine(database, gzip.compress(body[:200]) + gzip.compress(body[200:]))
    assert (await service.post(f"/v1/quarantine/{quarantine_id}/replay")).status_code == 200
    assert await database.pool.fetchval("SELECT body FROM event_bodies") == body

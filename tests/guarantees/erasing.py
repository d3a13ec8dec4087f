"""A person with data in every table, to be erased."""

import json
from typing import Any

import httpx

from service.formant.events import EventDecoder
from service.store.database import Database
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Verifier
from tests.factories import decode, encode, make_payload, phone_of, post_webhook, store_batch
from tests.guarantees.recount import find_differences
from tests.webhooks.ingesting import ingest

PHONE = phone_of(1)
NAME, LOAN, SAID, CALL = "Rahul-the-customer", "LN-secret-77", "i-lost-my-job", "conversation-of-rahul"
SECRETS = (PHONE[1:], NAME, LOAN, SAID, CALL)
PARAMETERS = {"customer_name": NAME, "loan_id": LOAN}
RESULTS = {"intent": "promise_to_pay", "said": SAID}


def make_webhook(**given: Any) -> dict[str, Any]:
    """A webhook about the person."""
    usual: dict[str, Any] = {"recipient": 1, "parameters": PARAMETERS, "results": RESULTS, "conversation_id": CALL}
    payload = make_payload(**(usual | given))
    payload["data"]["transcript"] = f"BOT: Hello {NAME}\nHUMAN: {SAID}"
    payload["data"]["call"]["recording_url"] = f"https://recordings.example/{LOAN}"
    if given.get("status", "completed") != "completed":
        payload["data"]["call"]["failure_reason"] = f"{NAME} did not answer"
    return payload


def make_other_webhooks() -> list[dict[str, Any]]:
    return [make_payload(recipient=2), make_payload(recipient=3, status="busy", final=False)]


async def fill(service: httpx.AsyncClient, database: Database) -> None:
    """Stores the person everywhere: two batches, retries, conflicts, unattributed, quarantined, replayed, healed."""
    await store_batch(database.url)
    other = await store_batch(database.url, 3, batch_id=457, ref_token="0ddba11")
    await store_batch(database.url, 3, batch_id=458, ref_token="dec0de", agent_id=8)  # without any calls yet
    await database.pool.execute("UPDATE recipients SET parameters = $1 WHERE phone = $2", json.dumps(PARAMETERS), PHONE)
    await database.pool.execute("UPDATE batches SET upload_detail = $1 WHERE batch_key = $2", f"row {PHONE}", other)
    webhooks = [
        make_webhook(attempt=1, status="no_answer", final=False, event_id="first"),
        make_webhook(attempt=2, event_id="second"),
        make_webhook(attempt=2, event_id="second", results={**RESULTS, "intent": "refused"}),  # a conflict
        make_webhook(attempt=None, event_id="without a number", conversation_id=f"{CALL}_2"),
        make_webhook(recipient=1, ref_token="0ddba11", event_id="in the other batch"),
        make_webhook(recipient=None, agent_id=99, phone=PHONE, event_id="stray"),
        *make_other_webhooks(),
    ]
    for payload in webhooks:
        assert (await post_webhook(service, payload)).status_code == 204
    unknown = make_webhook(event_id="unknown") | {"event_type": "call.unknown"}
    for body in (encode(make_webhook())[:-20], encode(unknown)):
        assert (await post_webhook(service, body)).status_code == 204
    readable = encode(make_webhook(attempt=3, event_id="replayed"))
    await database.pool.execute(
        "INSERT INTO quarantine (target, reason, detail, digest, body, received_at, last_received_at) "
        "VALUES ('default', 'not_json', 'body', 'd', $1, now(), now())", readable,
    )  # fmt: skip
    for row in (await service.get("/v1/quarantine")).json()["data"]:
        await service.post(f"/v1/quarantine/{row['quarantine_id']}/replay")
    (healed,) = decode(make_webhook(attempt=None, event_id="healed", conversation_id=f"{CALL}_3"))
    await ingest(database, healed._replace(source="healed", target="conversations"))


async def check_sound(database: Database) -> None:
    """Checks that counters equal a recount and that verification finds nothing."""
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []
    assert [finding async for finding in Verifier(database, EventDecoder("outcome_ref"), BodyCheck({})).verify()] == []

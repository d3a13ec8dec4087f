"""Secrets and people stay out of the logs: known ones are sent down every path, and none is found there."""

import asyncio
import signal

from service.store.database import connect
from tests.conftest import API_KEY, SECRET, create_database
from tests.factories import encode, make_payload, post_webhook, store_batch
from tests.http.processes import OUTCOMES, make_environ, run, serve
from tests.postgres import PostgresServer

NAME = "Rahul-the-customer"
TRANSCRIPT = "a-secret-thing-that-was-said"
PHONE = "+919876500001"
PROVIDER_KEY = "provider-key-of-ours"


async def test_what_is_sent_down_every_path_is_not_in_the_log(database_url: str) -> None:
    await store_batch(database_url, 5)
    payload = make_payload(recipient=1, phone=PHONE, parameters={"customer_name": NAME}, results={"said": TRANSCRIPT})
    good = encode(payload)
    bodies = [
        good,
        good.replace(b"event-", b"other-"),
        good.replace(b"call.completed", b"call.unknown"),
        good.replace(b'"data"', b'"date"'),
        good[:-20],
        good.replace(TRANSCRIPT.encode(), b"\\u0000" + TRANSCRIPT.encode()),
        good.replace(f'"{TRANSCRIPT}"'.encode(), b"1e999999"),
    ]
    csv = f"customer_phone,customer_name\n{PHONE},{NAME}\n"
    async with serve(
        OUTCOMES_DATABASE_URL=database_url,
        OUTCOMES_LOG_LEVEL="debug",
        FORMANT_API_KEY=PROVIDER_KEY,
        FORMANT_BASE_URL="http://127.0.0.1:9",  # nothing listens there
    ) as serving:
        for body in bodies:
            assert (await post_webhook(serving.client, body)).status_code == 204
        assert (await post_webhook(serving.client, good, secret="wrong")).status_code == 401
        assert (await serving.client.get(f"/v1/events/{PHONE}")).status_code == 404
        for content in (csv, csv.replace(PHONE, f"{PHONE}x"), csv * 2):
            answer = await serving.client.post(
                "/v1/batch-call", data={"agent_id": "1", "name": NAME}, files={"file": ("c.csv", content, "text/csv")}
            )
            assert answer.status_code in {400, 502}
        made = await run(OUTCOMES, "keys", "create", "a key", "--scope", "read", OUTCOMES_DATABASE_URL=database_url)
        key = made.output.strip()
        for tried in (key, f"{key}x"):
            headers = {"authorization": f"Bearer {tried}"}
            assert (await serving.client.get(f"/v1/events/{PHONE}", headers=headers)).status_code in {401, 404}
            assert (await serving.client.post("/v1/erasures", json={"phone": PHONE}, headers=headers)).status_code in {
                401, 403,
            }  # fmt: skip
        for asked in ({"phone": f"{PHONE}12345"}, {"phone": PHONE, NAME: 1}, {"phone": PHONE, "dry_run": True}):
            assert (await serving.client.post("/v1/erasures", json=asked)).status_code in {200, 400}
        for path in ("recipients", "recipients/1", "recipients.csv", "outcomes", f"recipients?status={NAME}"):
            await serving.client.get(f"/v1/batch-calls/456/{path}")
        for path in (f"feed?after=0&{NAME}=1", f"feed/consumers/{NAME}", "audit", f"quarantine?after={PHONE}"):
            await serving.client.get(f"/v1/{path}")
        assert (await serving.client.post("/v1/erasures", json={"phone": PHONE})).status_code == 200
        assert (await post_webhook(serving.client, good.replace(b"event-", b"later-"))).status_code == 204
        erased = await run(OUTCOMES, "erase", PHONE, OUTCOMES_DATABASE_URL=database_url)
        assert erased.status == 0
        log = [*serving.log, made.errors, erased.errors, erased.output]
        assert await serving.end(signal.SIGTERM) == 0
    text = "\n".join(map(str, log))
    assert "event_quarantined" in text
    assert "person_erased" in text
    for secret in (NAME, TRANSCRIPT, PHONE, PHONE[1:], SECRET, API_KEY, PROVIDER_KEY, key):
        assert secret not in text


async def test_what_stands_in_a_path_is_not_in_the_log_when_the_request_fails(own_postgres: PostgresServer) -> None:
    url = await create_database(own_postgres, "template0")
    async with serve(OUTCOMES_DATABASE_URL=url) as serving:
        await asyncio.to_thread(own_postgres.stop)
        assert (await serving.client.get(f"/v1/events/{PHONE}")).status_code == 503
        await asyncio.to_thread(own_postgres.start)
        connection = await connect(url)
        await connection.execute("DROP TABLE event_conflicts, unattributed")
        await connection.close()
        assert (await serving.client.get(f"/v1/events/{PHONE}")).status_code == 500
        assert (await serving.client.post("/v1/erasures", json={"phone": PHONE})).status_code == 500
        log = serving.log
        assert await serving.end(signal.SIGTERM) == 0
    failures = {(line["event"], line["operation"]) for line in log if "operation" in line}
    assert failures == {
        ("database_unavailable", "get_event"), ("request_failed", "get_event"), ("request_failed", "erase"),
    }  # fmt: skip
    assert PHONE[1:] not in str(log)


async def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    process = await asyncio.create_subprocess_exec(
        OUTCOMES, "serve", stderr=asyncio.subprocess.PIPE,
        env=make_environ({"OUTCOMES_DATABASE_URL": "postgresql://someone:pass-word@127.0.0.1:9/none"}),
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"pass-word" not in errors

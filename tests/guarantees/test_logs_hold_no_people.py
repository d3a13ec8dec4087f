"""Secrets and personal data stay out of the logs: known values are sent to every route, and none is logged."""

import asyncio
import gzip
import itertools
import json
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from service.formant.signature import SIGNATURE_HEADER, sign
from service.sandbox import RunningSandbox, SandboxOptions, SteppedClock, WebhookTarget, serve_sandbox
from service.store.database import Database, connect
from service.store.embedded import run_embedded_postgres
from tests.conftest import API_KEY, SECRET, create_database
from tests.crm.generic_server import LocalCrm
from tests.crm.hubspot_server import TOKEN
from tests.factories import UNSTORABLE_NUMBER, encode, make_payload, post_webhook, store_batch
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, Finished, Serving, run, run_in, serve
from tests.provider import START, find_free_port
from tests.webhooks.quarantining import quarantine

NAME = "Rahul-the-customer"
TRANSCRIPT = "a-secret-thing-that-was-said"
PHONE = "+919876500001"
OTHERS = [f"+91987651{number:04d}" for number in range(60)]
LOAN = "LOAN-of-Rahul-77"
PROVIDER_KEY = "provider-key-of-ours"
DATABASE_PASSWORD = "pass-word-of-the-database"
KNOWN = [
    NAME, TRANSCRIPT, LOAN, PHONE, PHONE[1:], PHONE[3:], *OTHERS, *(phone[1:] for phone in OTHERS), SECRET, API_KEY,
    PROVIDER_KEY, DATABASE_PASSWORD, TOKEN,
]  # fmt: skip
ADDRESSED = {
    "x-request-id": PHONE[1:], "traceparent": f"00-{PHONE[1:]}-{NAME}-01", "tracestate": f"vendor={PHONE[1:]}",
    "user-agent": NAME, "referer": f"https://crm.example.com/{PHONE}", "cookie": f"name={NAME}",
}  # fmt: skip
MAPPING = """
consumer = "crm"
[target]
kind = "generic"
url = "{url}"
[key]
parameter = "loan_id"
property = "loan_id"
[properties]
outcome = "state"
said = "results.said"
phone = "phone"
"""


def add_password(url: str) -> str:
    """Adds a password to a database address; the tests' server ignores it."""
    return url.replace("postgres@", f"postgres:{DATABASE_PASSWORD}@")


def check_log(log: Iterable[object], *more: str) -> str:
    """Asserts that no known secret was logged; returns the log as text."""
    text = "\n".join(map(str, log))
    for secret in (*KNOWN, *more):
        assert secret not in text, f"{secret} is in: {[line for line in text.splitlines() if secret in line]}"
    return text


async def test_personal_data_sent_to_webhooks_and_api_is_not_in_the_log(database_url: str) -> None:
    await store_batch(database_url, 5)
    payload = make_payload(recipient=1, phone=PHONE, parameters={"customer_name": NAME}, results={"said": TRANSCRIPT})
    good = encode(payload)
    stray = make_payload(recipient=None, event_id=PHONE[1:], phone=PHONE, results={"said": TRANSCRIPT})
    bodies = [
        good,
        good.replace(b"event-", b"other-"),
        good.replace(b"call.completed", b"call.unknown"),
        good.replace(b'"data"', b'"date"'),
        good[:-20],
        good.replace(TRANSCRIPT.encode(), b"\\u0000" + TRANSCRIPT.encode()),
        good.replace(f'"{TRANSCRIPT}"'.encode(), UNSTORABLE_NUMBER),
        good.replace(b"completed", b"busy"),
        encode(stray),
        encode(stray).replace(b"completed", b"busy"),
        encode({"event_id": NAME, "event_type": TRANSCRIPT, "data": PHONE}),
    ]
    csv = f"customer_phone,customer_name\n{PHONE},{NAME}\n"
    async with serve(
        OUTCOMES_DATABASE_URL=add_password(database_url),
        OUTCOMES_LOG_LEVEL="debug",
        FORMANT_API_KEY=PROVIDER_KEY,
        FORMANT_BASE_URL="http://127.0.0.1:9",  # nothing listens there
    ) as serving:
        for body in bodies:
            assert (await post_webhook(serving.client, body, **ADDRESSED)).status_code == 204
        assert (await post_webhook(serving.client, good, secret="wrong", **ADDRESSED)).status_code == 401
        for encoding, packed, status in (("gzip", gzip.compress(good), 204), ("br", good[:-9], 503)):
            encoded = ADDRESSED | {"content-encoding": encoding, SIGNATURE_HEADER: sign(good, SECRET)}
            assert (await post_webhook(serving.client, packed, **encoded)).status_code == status
        for path in (f"/webhooks/formant/{PHONE}", f"/webhooks/formant/{NAME}"):
            assert (await post_webhook(serving.client, good, path=path, **ADDRESSED)).status_code == 404
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
        for path in ("recipients", "recipients/1", "recipients.csv", "outcomes", f"recipients?state={NAME}"):
            await serving.client.get(f"/v1/batch-calls/456/{path}")
        for path in (f"feed?after=0&{NAME}=1", f"feed/consumers/{NAME}", "audit", f"quarantine?after={PHONE}"):
            await serving.client.get(f"/v1/{path}")
        assert (await serving.client.post("/v1/erasures", json={"phone": PHONE})).status_code == 200
        assert (await post_webhook(serving.client, good.replace(b"event-", b"later-"))).status_code == 204
        erased = await run(OUTCOMES, "erase", PHONE, OUTCOMES_DATABASE_URL=database_url)
        assert erased.status == 0
        log = [*serving.log, made.errors, erased.errors, erased.output]
        assert await serving.end(signal.SIGTERM) == 0
    text = check_log([*log, *serving.log], key)
    for event in ("event_quarantined", "event_conflict", "event_unattributed", "person_erased", "webhook_refused"):
        assert event in text
    assert "(withheld)" in text


async def test_every_route_logs_its_template_and_no_personal_data(database_url: str) -> None:
    await store_batch(database_url, 5)
    async with serve(OUTCOMES_DATABASE_URL=add_password(database_url), OUTCOMES_LOG_LEVEL="debug") as serving:
        document = (await serving.client.get("/openapi.json")).json()
        asked = set()
        for path, item in document["paths"].items():
            for method, operation in item.items():
                await request_with_personal_data(serving.client, method, path, operation)
                asked.add((method.upper(), path))
        for path in (f"/v1/{PHONE}", f"/{NAME}", f"/v1/batch-calls/456/{TRANSCRIPT}"):
            assert (await serving.client.get(path, headers=ADDRESSED)).status_code == 404
        assert (await serving.client.request(NAME.upper(), "/v1/batch-calls")).status_code in {400, 405}
        ids = {(await serving.client.get("/v1/batch-calls", headers=ADDRESSED)).headers["x-request-id"]}
        assert await serving.end(signal.SIGTERM) == 0
    check_log(serving.log)
    lines = [line for line in serving.log if line["event"] == "request"]
    unlogged = {("GET", path) for path in ("/healthz", "/readyz", "/metrics")}
    unlogged |= {(method, path) for method, path in asked if path.startswith("/webhooks")}
    logged = {(line["method"], line["route"]) for line in lines}
    assert logged == asked - unlogged | {("GET", "unknown"), ("GET", "/openapi.json")}
    assert len(asked - unlogged) > 30
    for line in lines:
        assert len(line["request_id"]) == 32
    assert ids <= {line["request_id"] for line in lines}
    assert {line["status"] for line in lines} >= {200, 400, 401, 404}


async def request_with_personal_data(
    client: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    """Calls an operation with personal data in path, parameters, headers and body, with several keys."""
    parameters = operation.get("parameters", [])
    query = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
    body = encode({"phone": PHONE, "name": NAME, "said": TRANSCRIPT, "position": LOAN})
    csv = f"customer_phone,customer_name\n{PHONE},{NAME}\n{PHONE},{NAME}\n+{NAME},{TRANSCRIPT}\n".encode()
    contents = [(b"", ""), (body, "application/json"), (body[:-9], "application/json"), (csv, "text/csv")]
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="' + NAME.encode() + b'.csv"\r\n\r\n'
    contents.append((form + csv + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"))
    contents.append((form + csv, "multipart/form-data; boundary=x"))
    places = [path.replace("{", "").replace("}", "")]
    for values in ({"batch_id": "456", "recipient": "1", "format": "csv"}, {}):
        filled = path
        for parameter in parameters:
            if parameter["in"] == "path":
                value = values.get(parameter["name"], PHONE if values else NAME)
                filled = filled.replace("{" + parameter["name"] + "}", value)
        places.append(filled)
    asked = [{}, *({name: value} for name in query for value in (PHONE, NAME)), {NAME: PHONE}]
    keys = [API_KEY, f"{API_KEY}-{NAME}", PHONE]
    for place, params in itertools.product(places, asked):
        await client.request(method, place, params=params, headers=ADDRESSED)
    for (content, kind), key in itertools.product(contents, keys):
        headers = ADDRESSED | {"authorization": f"Bearer {key}", "content-type": kind, "idempotency-key": f'"{NAME}"'}
        await client.request(method, places[1], content=content, headers=headers)


@asynccontextmanager
async def serve_with_provider(database_url: str) -> AsyncIterator[tuple[Serving, RunningSandbox]]:
    """Runs the service as a process, with the sandbox as its provider."""
    port = find_free_port()
    async with serve(
        OUTCOMES_DATABASE_URL=add_password(database_url), OUTCOMES_LOG_LEVEL="debug", FORMANT_API_KEY=PROVIDER_KEY,
        FORMANT_BASE_URL=f"http://127.0.0.1:{port}", OUTCOMES_RECONCILE_SECONDS="1", OUTCOMES_GRACE_SECONDS="0",
    ) as serving:  # fmt: skip
        target = WebhookTarget(url=f"{serving.client.base_url}/webhooks/formant", secret=SECRET)
        options = SandboxOptions(
            api_keys=(PROVIDER_KEY,), seed=1, rate_limit=10_000, first_batch_id=456, targets=(target,)
        )
        async with serve_sandbox(options, port=port, clock=SteppedClock(START)) as sandbox:
            yield serving, sandbox


def write_contacts(phones: list[str]) -> str:
    lines = [f"{phone},{NAME},{LOAN}-{number}" for number, phone in enumerate(phones)]
    return "\n".join(["customer_phone,customer_name,loan_id", *lines, ""])


async def send_file(client: httpx.AsyncClient, content: str, **form: str) -> httpx.Response:
    data = {"agent_id": "123", "name": NAME, **form}
    files = {"file": (f"{NAME}.csv", content, "text/csv")}
    return await client.post("/v1/batch-call", data=data, files=files, headers=ADDRESSED)


async def test_a_campaign_from_upload_to_crm_leaves_no_personal_data_in_the_log(
    database: Database, tmp_path: Path
) -> None:
    async with serve_with_provider(database.url) as (serving, sandbox):
        client = serving.client
        sandbox.sandbox.faults.drop = 0.3
        for form in ({"dry_run": "true"}, {"test_recipients": "5"}, {"test_recipients": "5"}):
            answer = await send_file(client, write_contacts(OTHERS[:20]), **form)
            assert answer.status_code in {200, 409}
        await sandbox.sandbox.wait_until_done(456)
        assert (await client.post("/v1/batch-calls/456/promote", headers=ADDRESSED)).status_code == 200
        await sandbox.sandbox.wait_until_done(457)
        assert (await client.post("/v1/batch-calls/457/reconcile")).status_code in {200, 503}
        sandbox.sandbox.faults.next_upload = "refused_after_body"
        assert (await send_file(client, write_contacts(OTHERS[20:30]))).status_code == 504
        sandbox.sandbox.faults.next_upload = "400"
        assert (await send_file(client, write_contacts(OTHERS[30:40]), force="true")).status_code == 400
        await register_from_dashboard(client, sandbox)
        token = await database.pool.fetchval("SELECT ref_token FROM batches WHERE batch_id = 457")
        said = make_payload(recipient=1, ref_token=token, phone=OTHERS[0], attempt=9, results={"said": TRANSCRIPT})
        assert (await post_webhook(client, said)).status_code == 204
        assert (await post_webhook(client, encode(said)[:-30])).status_code == 204
        (waiting,) = (await client.get("/v1/quarantine")).json()["data"]
        assert (await client.post(f"/v1/quarantine/{waiting['quarantine_id']}/replay")).status_code == 400
        repaired = await quarantine(
            database, encode(make_payload(recipient=None, phone=OTHERS[2], results={"said": TRANSCRIPT}))
        )
        assert (await client.post(f"/v1/quarantine/{repaired}/replay")).status_code == 200
        for path in ("456/recipients.csv", "457/recipients.parquet", "457/attempts.ndjson", "457/outcomes?by=loan_id"):
            assert (await client.get(f"/v1/batch-calls/{path}")).status_code == 200
        assert (await client.get("/v1/feed?after=0&limit=1000")).status_code == 200
        assert (await client.put("/v1/feed/consumers/crm", json={"position": 0})).status_code == 200
        finished = await run_commands(client, database.url, sandbox, tmp_path)
        assert await serving.end(signal.SIGTERM) == 0
    text = check_log([*serving.log, *(f"{done.errors}" for done in finished)])
    for event in ("batch_uploaded", "upload_refused", "upload_unknown", "registration_finished", "batch_healed"):
        assert event in text


async def register_from_dashboard(client: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    """Makes a batch at the provider, plays its webhooks, and registers its CSV, first with bad rows."""
    async with httpx.AsyncClient(base_url=sandbox.base_url) as provider:
        answer = await provider.post(
            "/v1/batch-call", data={"agent_id": "125", "name": NAME},
            files={"file": ("c.csv", write_contacts(OTHERS[40:45]), "text/csv")},
            headers={"authorization": f"Bearer {PROVIDER_KEY}"},
        )  # fmt: skip
    batch_id = answer.json()["data"]["id"]
    await sandbox.sandbox.wait_until_done(batch_id)
    for content, statuses in (
        (write_contacts([*OTHERS[40:44], f"{PHONE}99999"]), {400}), (write_contacts(OTHERS[40:45]), {200}),
    ):  # fmt: skip
        answer = await client.put(
            f"/v1/batch-calls/{batch_id}/recipients", content=content, headers=ADDRESSED | {"content-type": "text/csv"}
        )
        assert answer.status_code in statuses


async def run_commands(
    client: httpx.AsyncClient, database_url: str, sandbox: RunningSandbox, folder: Path
) -> list[Finished]:
    """Runs every command that handles personal data, including failing ones; returns the finished processes."""
    settings = {
        "OUTCOMES_DATABASE_URL": add_password(database_url), "FORMANT_API_KEY": PROVIDER_KEY,
        "FORMANT_BASE_URL": sandbox.base_url, "OUTCOMES_LOG_LEVEL": "debug",
    }  # fmt: skip
    commands = (
        ("replay",), ("verify", "--json"), ("rebuild",), ("reconcile", "457"), ("reconcile", "999"),
        ("erase", "--dry-run", OTHERS[1]), ("erase", f"{PHONE}99999"), ("erase", OTHERS[1]),
    )  # fmt: skip
    finished = [await run(OUTCOMES, *command, **settings) for command in commands]
    assert [done.status for done in finished[-2:]] == [2, 0]
    async with LocalCrm().serve() as crm:
        crm.refused = {f"{LOAN}-{number}": f"{NAME} of {PHONE} is not known" for number in range(5)}
        (folder / "map.toml").write_text(MAPPING.format(url=crm.url))
        job = {
            "OUTCOMES_URL": str(client.base_url), "OUTCOMES_FEED_KEY": API_KEY, "OUTCOMES_CRM_TOKEN": TOKEN,
            "OUTCOMES_LOG_LEVEL": "debug",
        }  # fmt: skip
        for changed in ({}, {"OUTCOMES_CRM_TOKEN": f"{TOKEN}x"}, {"OUTCOMES_FEED_KEY": f"{API_KEY}x"}):
            command = (OUTCOMES, "crm-sync", "map.toml", "--once", "--from-start")
            finished.append(await run_in(folder, *command, **(job | changed)))
        assert crm.records
    return finished


async def test_a_failing_request_does_not_log_its_path(own_postgres: PostgresServer) -> None:
    url = await create_database(own_postgres, "template0")
    async with serve(OUTCOMES_DATABASE_URL=add_password(url), OUTCOMES_LOG_LEVEL="debug") as serving:
        webhook = make_payload(phone=PHONE, results={"said": TRANSCRIPT})
        await asyncio.to_thread(own_postgres.stop)
        assert (await serving.client.get(f"/v1/events/{PHONE}", headers=ADDRESSED)).status_code == 503
        assert (await serving.client.get("/readyz")).status_code == 503
        assert (await post_webhook(serving.client, webhook, **ADDRESSED)).status_code == 503
        await asyncio.to_thread(own_postgres.start)
        connection = await connect(url)
        await connection.execute("DROP TABLE event_conflicts, unattributed")
        # The server's error then quotes the whole row, including the phone.
        await connection.execute("ALTER TABLE erasures ADD CONSTRAINT none CHECK (false)")
        await connection.close()
        assert (await serving.client.get(f"/v1/events/{PHONE}", headers=ADDRESSED)).status_code == 500
        assert (await serving.client.post("/v1/erasures", json={"phone": PHONE})).status_code == 500
        log = serving.log
        assert await serving.end(signal.SIGTERM) == 0
    failures = {(line["event"], line["operation"]) for line in log if "operation" in line}
    assert failures == {
        ("database_unavailable", "get_event"), ("request_failed", "get_event"), ("request_failed", "erase"),
    }  # fmt: skip
    text = check_log(log)
    assert "group_write_failed" in text


async def test_an_unreachable_database_is_reported_without_its_password() -> None:
    for command in ("serve", "migrate", "verify", "replay", "rebuild"):
        url = f"postgresql://someone:{DATABASE_PASSWORD}@127.0.0.1:9/none"
        finished = await run(OUTCOMES, command, OUTCOMES_DATABASE_URL=url)
        assert finished.status == 2
        assert DATABASE_PASSWORD not in finished.output + finished.errors


async def test_a_failing_command_names_the_error_and_quotes_no_data(database_url: str) -> None:
    connection = await connect(database_url)
    # The server's error then quotes the whole row, including the phone.
    await connection.execute("ALTER TABLE erasures ADD CONSTRAINT none CHECK (false)")
    await connection.close()
    finished = await run(OUTCOMES, "erase", PHONE, OUTCOMES_DATABASE_URL=add_password(database_url))
    assert finished.status == 1
    (line,) = check_log([finished.errors]).splitlines()
    assert "command failed" in line
    assert "CheckViolationError" in line
    assert "23514" in line


async def test_the_embedded_postgres_logs_no_refused_row(tmp_path: Path) -> None:
    async with serve(OUTCOMES_DATA_DIR=str(tmp_path / "data")) as serving:
        with run_embedded_postgres(tmp_path / "data") as url:
            connection = await connect(url)
            await connection.execute("ALTER TABLE erasures ADD CONSTRAINT none CHECK (false)")
            await connection.close()
        assert (await serving.client.post("/v1/erasures", json={"phone": PHONE})).status_code == 500
        assert await serving.end(signal.SIGTERM) == 0
    text = check_log([*serving.log, (tmp_path / "data" / "postgres" / "log").read_text()])
    assert "violates check constraint" in text


def test_each_known_secret_would_be_found() -> None:
    for secret in KNOWN:
        line = json.dumps({"event": "request", "path": f"/v1/{secret}"})
        try:
            check_log([line])
        except AssertionError:
            continue
        raise AssertionError(f"{secret} was not found")

"""A flood of forged webhooks is refused without the database, within bounded memory, and raises an alarm. Genuine
webhooks in between are stored and answered as usual."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import httpx

from service.formant.signature import SIGNATURE_HEADER, sign
from service.store.database import Database
from service.webhooks.backlog import BacklogLimits
from tests.conftest import SECRET, StartService, create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import encode, make_payload, post_webhook, store_batch
from tests.postgres import PostgresServer
from tests.server.raw_http import connect_raw

FORGED = 4000
GENUINE = 40
CONNECTIONS = 8
BODY = encode(make_payload(recipient=1, event_id="forged"))
GOOD = sign(BODY, SECRET)
NEARLY = GOOD[:-1] + ("0" if GOOD[-1] != "0" else "1")

# What a forger may send: path, signature header lines, and the status of the answer.
SHAPES: dict[str, tuple[str, str, int]] = {
    "none": ("/webhooks/formant", "", 401),
    "empty": ("/webhooks/formant", f"{SIGNATURE_HEADER}: \r\n", 401),
    "another secret": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {sign(BODY, 'guessed')}\r\n", 401),
    "another body": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {sign(BODY + b' ', SECRET)}\r\n", 401),
    "one digit off": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {NEARLY}\r\n", 401),
    "too short": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {GOOD[:-1]}\r\n", 401),
    "too long": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {GOOD}0\r\n", 401),
    "one digit off, without its prefix": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {NEARLY[7:]}\r\n", 401),
    "one digit off, in capitals": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {NEARLY.upper()}\r\n", 401),
    "not ASCII": ("/webhooks/formant", f"{SIGNATURE_HEADER}: sha256=é\r\n", 401),
    "huge": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {'0' * 60_000}\r\n", 401),
    "many, all wrong": ("/webhooks/formant", f"{SIGNATURE_HEADER}: {','.join([NEARLY] * 800)}\r\n", 401),
    "two, both wrong": (
        "/webhooks/formant", f"{SIGNATURE_HEADER}: {NEARLY}\r\n{SIGNATURE_HEADER}: sha256=00\r\n", 401,
    ),
    "an unknown target": ("/webhooks/formant/nobody", f"{SIGNATURE_HEADER}: {GOOD}\r\n", 404),
}  # fmt: skip


HELD_BYTES = 1_000_000
DEADLINE_SECONDS = 20.0


def write_forgery(shape: str) -> bytes:
    path, signature, _ = SHAPES[shape]
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(BODY)}\r\n{signature}\r\n"
    return head.encode("latin-1") + BODY


async def flood(service: httpx.AsyncClient, count: int, genuine: Sequence[int] = ()) -> Counter[int]:
    """Sends ``count`` forgeries of all shapes over several connections, with genuine webhooks of these recipients in
    between; returns the number of answers to forgeries by status."""
    shapes = itertools.islice(itertools.cycle(SHAPES), count)
    recipients = iter(genuine)
    every = count // (len(genuine) + 1)
    answers: Counter[int] = Counter()

    async def send_some() -> None:
        async with connect_raw(service) as connection:
            for shape in shapes:
                await connection.send(write_forgery(shape))
                status = (await connection.read_answer()).status
                assert status == SHAPES[shape][2], shape
                answers[status] += 1
                if answers.total() % every == 0 and (recipient := next(recipients, None)) is not None:
                    payload = make_payload(recipient=recipient, event_id=f"genuine-{recipient}")
                    assert (await post_webhook(service, payload)).status_code == 204

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(send_some())
    assert next(recipients, None) is None, "all genuine ones were sent"
    return answers


async def test_only_genuine_webhooks_of_a_flood_are_stored_and_the_flood_raises_an_alarm(
    service: httpx.AsyncClient, database: Database, database_url: str
) -> None:
    await store_batch(database_url, GENUINE)
    answers = await flood(service, FORGED, range(1, GENUINE + 1))
    assert answers.total() == FORGED

    stored = await database.pool.fetch("SELECT event_id FROM events")
    assert {row["event_id"] for row in stored} == {f"genuine-{n}" for n in range(1, GENUINE + 1)}
    assert await database.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"]["processed"] == GENUINE

    for target, answer, count in (
        ("default", "authentication_error", answers[401]),
        ("unknown", "not_found", answers[404]),
        ("default", "stored", GENUINE),
    ):
        assert await read_metric(service, "outcomes_webhooks_total", target=target, answer=answer) == count
    (alarm,) = (await service.get("/v1/alarms")).json()["data"]
    assert (alarm["name"], alarm["count"]) == ("signatures_rejected", answers[401])
    assert await database.pool.fetchval("SELECT count(*) FROM rejected_signatures") <= 2, "a sum for each minute"


async def test_forged_webhooks_are_refused_without_a_database(
    start_service: StartService, own_postgres: PostgresServer
) -> None:
    url = await create_database(own_postgres, "template0")
    async with start_service(OUTCOMES_DATABASE_URL=url) as service:
        await asyncio.to_thread(own_postgres.stop)
        answers = await flood(service, FORGED // 4)
        assert answers.total() == FORGED // 4
        assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="failed") == 0
        assert await read_metric(service, "outcomes_group_failures_total") == 0, "they never became a group"


async def test_large_forged_bodies_are_limited_to_the_bytes_of_the_backlog_while_they_are_read(
    start_service: StartService, database: Database
) -> None:
    async with start_service(BacklogLimits(body_bytes=HELD_BYTES)) as service, AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect_raw(service)) for _ in range(20)]
        for connection in connections:
            await connection.begin_webhook(b"another", "Content-Length: 5000000")
            await connection.send(bytes(100_000))
        await eventually(
            lambda: read_metric(service, "outcomes_webhooks_total", target="default", answer="overloaded"),
            lambda value: value >= 10,
        )
        assert 0 < await read_metric(service, "outcomes_backlog_bytes") <= HELD_BYTES
        for connection in connections:
            await connection.hang_up()
        await eventually(lambda: read_metric(service, "outcomes_backlog_events"), lambda value: not value)
        assert await read_metric(service, "outcomes_backlog_bytes") == 0
        # A complete body is read whole, since the signature covers all of it, and leaves nothing behind.
        answer = await post_webhook(service, bytes(900_000), secret="guessed")
        assert answer.status_code == 401
        assert await read_metric(service, "outcomes_backlog_bytes") == 0
        assert await database.pool.fetchval("SELECT count(*) FROM events") == 0

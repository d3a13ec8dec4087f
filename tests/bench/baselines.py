"""What the service is measured against: the ceiling of the framework, and a plain hand-written receiver.

``python -m tests.bench.baselines noop PORT`` or ``plain PORT DATABASE_URL``.
"""

import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.load import SECRET

POOL_SIZE = 16
# The same tables and writes as the service's, in one transaction per webhook, as most people would write it.
INSERT_EVENT = """
    INSERT INTO events (event_id, arrival_id, digest, event_type, target, received_at, recorded_at)
    VALUES ($1, nextval('arrival_ids'), $2, $3, 'default', now(), now())
    ON CONFLICT DO NOTHING RETURNING arrival_id, recorded_at"""
INSERT_BODY = "INSERT INTO event_bodies (arrival_id, recorded_at, body) VALUES ($1, $2, $3)"
FIND_BATCH = "SELECT batch_key FROM batches WHERE ref_token = $1"
GET_OUTCOME = """
    SELECT o.state, o.attempts, f.duration_seconds, f.results
    FROM outcomes AS o JOIN facts AS f USING (batch_key, recipient_no, arrival_id)
    WHERE o.batch_key = $1 AND o.recipient_no = $2 FOR UPDATE OF o"""
INSERT_FACT = """
    INSERT INTO facts (batch_key, recipient_no, arrival_id, event_id, source, method, conversation_id, attempt_number,
                       max_attempts, status, is_final, next_retry_at, occurred_at, started_at, ended_at,
                       duration_seconds, failure_reason, results, recorded_at)
    VALUES ($1, $2, $3, $4, 'webhook', 'reference', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, now())"""
UPSERT_OUTCOME = """
    INSERT INTO outcomes AS o (batch_key, recipient_no, state, attempts, arrival_id, position, version, changed_at)
    VALUES ($1, $2, $3, 1, $4, nextval('feed_positions'), 1, now())
    ON CONFLICT (batch_key, recipient_no) DO UPDATE
    SET state = excluded.state, attempts = o.attempts + 1, arrival_id = excluded.arrival_id,
        position = excluded.position, version = o.version + 1, changed_at = now()
    RETURNING attempts"""
COUNT_OUTCOME = """
    INSERT INTO outcome_counts AS c (batch_key, state, attempts, source, recipients, talked, talk_seconds)
    VALUES ($1, $2, $3, 'webhook', $4, $5, $6)
    ON CONFLICT (batch_key, state, attempts, source) DO UPDATE
    SET recipients = c.recipients + excluded.recipients, talked = c.talked + excluded.talked,
        talk_seconds = c.talk_seconds + excluded.talk_seconds"""
COUNT_RESULTS = """
    INSERT INTO result_counts AS c (batch_key, name, value, recipients)
    SELECT $1, key, value, $3 FROM jsonb_each_text($2) ORDER BY key, value
    ON CONFLICT (batch_key, name, value) DO UPDATE SET recipients = c.recipients + excluded.recipients"""
COUNT_RESULT_TOTALS = """
    INSERT INTO result_totals AS c (batch_key, name, recipients)
    SELECT $1, key, $3 FROM jsonb_each_text($2) ORDER BY key
    ON CONFLICT (batch_key, name) DO UPDATE SET recipients = c.recipients + excluded.recipients"""
COUNT_ATTEMPT = """
    INSERT INTO attempt_counts AS c (batch_key, slot, status, attempts)
    VALUES ($1, date_bin('15 minutes', $2, '2000-01-01Z'), $3, 1)
    ON CONFLICT (batch_key, slot, status) DO UPDATE SET attempts = c.attempts + 1"""
NOTE_ACTIVITY = """
    INSERT INTO batch_activity AS a (batch_key, last_event_at) VALUES ($1, now())
    ON CONFLICT (batch_key) DO UPDATE SET last_event_at = greatest(a.last_event_at, excluded.last_event_at)"""


async def answer_nothing(request: Request) -> Response:
    """The ceiling: a route that does nothing."""
    return Response(status_code=204)


async def receive(request: Request) -> Response:
    """Verifies, parses, and stores in one transaction."""
    body = await request.body()
    expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("x-formantai-signature", "")):
        return Response(status_code=401)
    event = json.loads(body)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await store(connection, event, body)
    return Response(status_code=204)


async def store(connection: Any, event: dict[str, Any], body: bytes) -> None:
    """Performs all writes of one webhook."""
    call, retry = event["data"]["call"], event["data"]["retry"]
    results = json.dumps(event["data"]["results"])
    row = await connection.fetchrow(INSERT_EVENT, event["event_id"], hashlib.sha256(body).digest(), event["event_type"])
    if row is None:
        return
    await connection.execute(INSERT_BODY, row["arrival_id"], row["recorded_at"], body)
    token, _, number = call["call_parameters"]["outcome_ref"].partition("-")
    batch_key, recipient = await connection.fetchval(FIND_BATCH, token), int(number)
    before = await connection.fetchrow(GET_OUTCOME, batch_key, recipient)
    await connection.execute(
        INSERT_FACT, batch_key, recipient, row["arrival_id"], event["event_id"], call["conversation_id"],
        retry["attempt_number"], retry["max_attempts"], call["status"], retry["is_final_attempt"],
        _time(retry["next_retry_at"]), _time(event["timestamp"]), _time(call["started_at"]), _time(call["ended_at"]),
        call["duration_seconds"], call["failure_reason"], results,
    )  # fmt: skip
    state = call["status"] if retry["is_final_attempt"] else "pending_retry"
    attempts = await connection.fetchval(UPSERT_OUTCOME, batch_key, recipient, state, row["arrival_id"])
    # The counters come last: their rows are locked until the commit.
    if before is not None:
        seconds = before["duration_seconds"]
        await connection.execute(
            COUNT_OUTCOME, batch_key, before["state"], before["attempts"], -1, -(seconds is not None), -(seconds or 0)
        )
        await connection.execute(COUNT_RESULTS, batch_key, before["results"], -1)
        await connection.execute(COUNT_RESULT_TOTALS, batch_key, before["results"], -1)
    seconds = call["duration_seconds"]
    await connection.execute(COUNT_OUTCOME, batch_key, state, attempts, 1, int(seconds is not None), seconds or 0)
    if event["data"]["results"]:
        await connection.execute(COUNT_RESULTS, batch_key, results, 1)
        await connection.execute(COUNT_RESULT_TOTALS, batch_key, results, 1)
    await connection.execute(COUNT_ATTEMPT, batch_key, _time(call["started_at"]), call["status"])
    await connection.execute(NOTE_ACTIVITY, batch_key)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def make_app(kind: str, url: str | None) -> Starlette:
    """The baseline of that name."""
    if kind == "noop":
        return Starlette(routes=[Route("/webhooks/formant", answer_nothing, methods=["POST"])])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
            app.state.pool = pool
            yield

    return Starlette(routes=[Route("/webhooks/formant", receive, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    application = make_app(sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else None)
    server = uvicorn.Server(
        uvicorn.Config(application, port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False,
                       log_level="warning")
    )  # fmt: skip
    server.run()

"""A trigger that blocks an upload before it commits a state, and a provider to send uploads to."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx

from service.sandbox import RunningSandbox, SandboxOptions, SteppedClock, WebhookTarget, serve_sandbox
from tests.conftest import SECRET
from tests.eventually import eventually
from tests.provider import KEY

WEEK_SECONDS = 7 * 86_400
BLOCK = """
CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
CREATE TRIGGER stop_here BEFORE INSERT OR UPDATE OF upload_state ON batches FOR EACH ROW
    WHEN (NEW.upload_state = '{state}') EXECUTE FUNCTION stop_here();
"""
UNBLOCK = "DROP FUNCTION stop_here CASCADE"
WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"


@asynccontextmanager
async def provider(service_port: int) -> AsyncIterator[RunningSandbox]:
    target = WebhookTarget(url=f"http://127.0.0.1:{service_port}/webhooks/formant", secret=SECRET)
    options = SandboxOptions(api_keys=(KEY,), targets=(target,), seed=1, rate_limit=10_000, first_batch_id=456)
    async with serve_sandbox(options, port=0, clock=SteppedClock(time.time(), allowance=0)) as sandbox:
        yield sandbox


async def wait_for_step(reached: asyncio.Task[Any], trying: asyncio.Task[httpx.Response]) -> None:
    """Waits until ``reached`` is done while a caller is waiting; the caller must not get an answer before."""
    async with asyncio.timeout(30):
        await asyncio.wait({reached, trying}, return_when=asyncio.FIRST_COMPLETED)
    assert not trying.done(), trying.result().text


async def wait_for_block(connection: asyncpg.Connection) -> int:
    pid = await eventually(lambda: connection.fetchval(WAITING), lambda value: value is not None)
    return int(pid)

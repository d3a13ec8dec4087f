"""Data and connections for the tests of the BI schema: batches played by the sandbox, and its roles."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import httpx

from service.sandbox import RunningSandbox, sample_contacts
from service.store.bi_roles import ROLES, set_up_role
from service.store.database import Connection
from tests.conftest import StartService
from tests.eventually import eventually
from tests.provider import connect_provider, upload

TEST, MAIN, LOSSY = 456, 457, 458


@asynccontextmanager
async def play_batches(start_service: StartService) -> AsyncIterator[tuple[httpx.AsyncClient, RunningSandbox]]:
    """Plays a test batch and its promotion, both reconciled; a batch that lost webhooks and was healed; and a test
    batch whose webhooks were all lost, with the rest of its file held."""
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        played = sandbox.sandbox
        await upload(service, sample_contacts(60, seed=2), test_recipients="15")
        await played.wait_until_done(TEST)
        await service.put("/v1/agents/123/goal", json={"results": {"intent": ["promise_to_pay"]}})
        await service.post(f"/v1/batch-calls/{TEST}/promote")
        await played.wait_until_done(MAIN)
        for batch_id in (TEST, MAIN):
            await service.post(f"/v1/batch-calls/{batch_id}/reconcile")
        played.faults.drop = 0.3
        await upload(service, sample_contacts(80, seed=3), agent_id="124", name="April")
        await played.wait_until_done(LOSSY)
        await service.post(f"/v1/batch-calls/{LOSSY}/reconcile")
        await eventually(lambda: count_details(service, LOSSY), lambda count: count == 0)
        played.faults.drop = 1.0
        await upload(service, sample_contacts(30, seed=4), agent_id="125", name="May", test_recipients="10")
        yield service, sandbox


async def count_details(service: httpx.AsyncClient, batch_id: int) -> int:
    """How many results of healed calls are still to be fetched."""
    return int((await service.get(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]["details_outstanding"])


@asynccontextmanager
async def as_role(url: str, role: str) -> AsyncIterator[asyncpg.Connection]:
    """Opens a connection to the database as ``role``."""
    parts = urlsplit(url)
    connection = await asyncpg.connect(parts._replace(netloc=f"{role}@").geturl())
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def roles_set_up(url: str, *, statement_seconds: int = 60) -> AsyncIterator[None]:
    """Sets up both roles for the block. Roles belong to the whole server, so the next test must not see them."""
    connection = await asyncpg.connect(url)
    try:
        for role in ROLES:
            await set_up_role(connection, role, connections=20, statement_seconds=statement_seconds, password="")
        yield
    finally:
        for role in ROLES:
            await drop_role(connection, role)
        await connection.close()


async def drop_role(connection: Connection, role: str) -> None:
    """Removes a role, if it exists, and its grants in this database."""
    if await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

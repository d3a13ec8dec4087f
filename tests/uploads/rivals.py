"""Uploads that look alike."""

import httpx

from service.formant.batches import ProviderBatch
from service.sandbox import RunningSandbox
from service.store.database import Database
from service.uploads.results import record_batch
from tests.provider import CONTACTS, upload

OTHERS = CONTACTS.replace("+919876543210", "+919900000001").replace("+919812345678", "+919900000002")


async def lose(
    service: httpx.AsyncClient, sandbox: RunningSandbox, content: str, *, is_taken: bool, **form: str
) -> int:
    """An upload whose answer was lost; gives its id."""
    sandbox.sandbox.faults.next_upload = "lost_answer" if is_taken else "refused_after_body"
    await upload(service, content, force="true", **form)
    return int((await service.get("/v1/uploads")).json()["data"][0]["upload_id"])


async def states(service: httpx.AsyncClient) -> dict[int, tuple[str, int | None]]:
    rows = (await service.get("/v1/uploads")).json()["data"]
    return {row["upload_id"]: (row["state"], row["batch_id"]) for row in rows}


async def adopt_wrongly(database: Database, known_by: str) -> int:
    """Gives batch 456 to the first upload, as a guess; gives its key."""
    key: int = await database.pool.fetchval("SELECT min(batch_key) FROM batches")
    batch = ProviderBatch(id=456, agent_id=123, name="March Follow Ups", status="pending", total_recipients=2)
    assert await record_batch(database, key, batch, known_by=known_by)
    return key

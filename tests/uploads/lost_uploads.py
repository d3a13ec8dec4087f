"""Uploads whose answers are lost, and what is found of them in the provider's list."""

from datetime import datetime, timedelta

import httpx

from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient, open_http
from service.sandbox import RunningSandbox
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lookup import UploadFinder, UploadRecovery
from service.uploads.results import record_batch
from tests.provider import CONTACTS, KEY, upload
from tests.uploads import dashboard

OTHERS = CONTACTS.replace("+919876543210", "+919900000001").replace("+919812345678", "+919900000002")


async def make_elsewhere(sandbox: RunningSandbox, name: str = "March Follow Ups", content: str = CONTACTS) -> int:
    """A batch that was made in the provider's dashboard."""
    return await dashboard.make_elsewhere(sandbox, content, name)


async def lose(
    service: httpx.AsyncClient, sandbox: RunningSandbox, content: str = CONTACTS, *, is_taken: bool = False, **form: str
) -> int:
    """An upload whose answer was lost, taken by the provider or not; returns its id."""
    sandbox.sandbox.faults.next_upload = "lost_answer" if is_taken else "refused_after_body"
    answer = await upload(service, content, force="true", **form)
    (row, *_) = (await service.get("/v1/uploads")).json()["data"]
    assert is_taken or (answer.status_code, row["state"]) == (504, "unknown")
    return int(row["upload_id"])


async def states(service: httpx.AsyncClient) -> dict[int, tuple[str, int | None]]:
    rows = (await service.get("/v1/uploads")).json()["data"]
    return {row["upload_id"]: (row["state"], row["batch_id"]) for row in rows}


async def adopt_wrongly(database: Database, known_by: str) -> int:
    """Gives batch 456 to the first upload, as a guess; returns its key."""
    key: int = await database.pool.fetchval("SELECT min(batch_key) FROM batches")
    batch = ProviderBatch(id=456, agent_id=123, name="March Follow Ups", status="pending", total_recipients=2)
    assert await record_batch(database, key, batch, known_by=known_by)
    return key


async def look_again(database: Database, sandbox: RunningSandbox) -> None:
    """The next lookup, as if its time had come."""
    await database.pool.execute("UPDATE batches SET next_lookup_at = now() WHERE upload_state = 'unknown'")
    async with open_http(sandbox.base_url, KEY) as http:
        await UploadRecovery(database, UploadFinder(database, FormantClient(http, Metrics()))).settle()


async def read(service: httpx.AsyncClient, upload_id: int) -> dict[str, object]:
    shown: dict[str, object] = (await service.get(f"/v1/uploads/{upload_id}")).json()["data"]
    return shown


def shift(time_text: str, *, hours: int) -> str:
    return (datetime.fromisoformat(time_text) + timedelta(hours=hours)).isoformat()

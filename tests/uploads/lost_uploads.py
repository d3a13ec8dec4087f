"""Uploads whose answers are lost, and what is found of them in the provider's list."""

from datetime import datetime, timedelta

import httpx

from service.formant.client import FormantClient, open_http
from service.sandbox import RunningSandbox
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lookup import UploadFinder, UploadRecovery
from tests.provider import CONTACTS, KEY, upload


async def make_elsewhere(sandbox: RunningSandbox, name: str = "March Follow Ups", content: str = CONTACTS) -> int:
    """A batch that somebody made in the provider's dashboard."""
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers={"authorization": f"Bearer {KEY}"}) as dashboard:
        files = {"file": ("contacts.csv", content, "text/csv")}
        answer = await dashboard.post("/v1/batch-call", data={"agent_id": "123", "name": name}, files=files)
        batch_id: int = answer.json()["data"]["id"]
        return batch_id


async def lose(service: httpx.AsyncClient, sandbox: RunningSandbox, **form: str) -> int:
    """An upload that the provider never took, and whose answer was lost; gives its id."""
    sandbox.sandbox.faults.next_upload = "refused_after_body"
    assert (await upload(service, force="true", **form)).status_code == 504
    (row, *_) = (await service.get("/v1/uploads")).json()["data"]
    assert row["state"] == "unknown"
    return int(row["upload_id"])


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

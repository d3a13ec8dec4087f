"""Batches that were made in the provider's dashboard, and their registration."""

from typing import Any

import httpx

from service.formant.client import FormantClient, open_http
from service.sandbox import RunningSandbox
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.discovery import Discoverer
from service.uploads.registration import Registrar
from tests.provider import KEY

PATH = "/v1/batch-calls/456/recipients"


async def make_elsewhere(sandbox: RunningSandbox, content: str, name: str = "Dashboard") -> int:
    """Makes a batch as the dashboard does, without the service."""
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers={"authorization": f"Bearer {KEY}"}) as provider:
        answer = await provider.post(
            "/v1/batch-call", data={"agent_id": "123", "name": name}, files={"file": ("c.csv", content, "text/csv")}
        )
        batch_id: int = answer.json()["data"]["id"]
        return batch_id


async def discover(database: Database, sandbox: RunningSandbox) -> None:
    """One pass of a replica."""
    metrics = Metrics()
    registrar = Registrar(database)
    async with open_http(sandbox.base_url, KEY) as http:
        await Discoverer(database, FormantClient(http, metrics), registrar, metrics, interval_seconds=60).discover()


async def hold_discovery(database: Database) -> None:
    """Keeps the service from discovering by itself, so that the test says when."""
    await database.queries.claim_lease(database.pool, name="discovery", holder="test", seconds=3600)


async def put(service: httpx.AsyncClient, content: str, path: str = PATH) -> httpx.Response:
    return await service.put(path, content=content, headers={"content-type": "text/csv"})


async def list_waiting(service: httpx.AsyncClient) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await service.get("/v1/unattributed")).json()["data"]
    return data

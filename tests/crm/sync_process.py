"""``outcomes crm-sync`` as a real process, between a real service and a local HubSpot."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import API_KEY
from tests.crm.hubspot_server import TOKEN, LocalHubSpot
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook
from tests.processes import OUTCOMES, Finished, Process, run_in, start

MAPPING = """
consumer = "hubspot"
only_final = {only_final}
[target]
kind = "hubspot"
object_type = "contacts"
url = "{url}"
[key]
parameter = "loan_id"
property = "loan_id"
[properties]
outcome = {{ field = "state", values = {{ completed = "CONNECTED" }} }}
attempts = "attempts"
intent = "results.intent"
phone = "phone"
[constants]
channel = "voice"
{more}
"""
FAILURES = "hubspot.failures.ndjson"


class Sync:
    """Runs the job in a folder of its own, with a mapping file for the local HubSpot."""

    def __init__(
        self, folder: Path, service: str, hubspot: LocalHubSpot, *, only_final: bool = True, more: str = ""
    ) -> None:
        self.folder = folder
        self._service = service
        content = MAPPING.format(url=hubspot.url, only_final=str(only_final).lower(), more=more)
        (folder / "map.toml").write_text(content)

    async def run(self, *arguments: str, **settings: str) -> Finished:
        """Runs it to its end."""
        return await run_in(self.folder, OUTCOMES, "crm-sync", "map.toml", *arguments, **self._settings(settings))

    @asynccontextmanager
    async def start(self, *arguments: str, **settings: str) -> AsyncIterator[Process]:
        """Starts it, and kills it at the end of the block if it still runs."""
        pipe = asyncio.subprocess.PIPE
        process = await start(
            OUTCOMES, "crm-sync", "map.toml", *arguments, settings=self._settings(settings), folder=self.folder,
            stdout=pipe, stderr=pipe,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    def edit(self, old: str, new: str) -> None:
        """Changes the mapping file."""
        path = self.folder / "map.toml"
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new))

    def read_failures(self) -> list[dict[str, Any]]:
        """What is in the failures file."""
        return [json.loads(line) for line in (self.folder / FAILURES).read_text().splitlines()]

    def _settings(self, settings: dict[str, str]) -> dict[str, str]:
        return {
            "OUTCOMES_URL": self._service, "OUTCOMES_FEED_KEY": API_KEY, "OUTCOMES_CRM_TOKEN": TOKEN, **settings,
        }  # fmt: skip


async def call(service: httpx.AsyncClient, *recipients: int, **fields: Any) -> None:
    """Sends a webhook of a call to each of these recipients."""
    for recipient in recipients:
        answer = await post_webhook(service, make_payload(recipient=recipient, **fields))
        assert answer.status_code == 204


async def get_acknowledged(service: httpx.AsyncClient) -> int | None:
    """The position that the job has acknowledged, or None."""
    answer = await service.get("/v1/feed/consumers/hubspot")
    return None if answer.status_code == 404 else int(answer.raise_for_status().json()["data"]["position"])


async def until(condition: Any) -> None:
    """Returns once a condition holds."""
    await eventually(condition)

"""A provider's list of conversations, page by page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.formant.client import FormantClient
from service.reconciliation.healer import HealedBatch, Healer, Progress
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.factories import AGENT_ID, BEGAN, phone_of

STARTED = BEGAN - timedelta(hours=1)  # as store_batch has it


def converse(
    recipient: int | None, began: datetime = BEGAN, status: str = "busy", conversation_id: str | None = None
) -> dict[str, Any]:
    """A call to a recipient of the batch, or to a stranger."""
    start = round(began.timestamp() * 1000)
    return {
        "agent_id": AGENT_ID, "contact_number": "+1999" if recipient is None else phone_of(recipient),
        "conversation_id": conversation_id or f"c-{recipient}-{start}", "duration_seconds": None,
        "end_timestamp": start + 20_000, "start_timestamp": start, "status": status,
    }  # fmt: skip


class Provider:
    """Lists the conversations in the order given; ``arriving`` ones come to the front, one before each page."""

    def __init__(self, listed: list[dict[str, Any]], arriving: list[dict[str, Any]] | None = None) -> None:
        self.listed = listed
        self.arriving = arriving or []
        self.total = 1  # wrong
        self.pages = 0
        self.fetched: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/conversations":
            self.pages += 1
            if self.arriving:
                self.listed.insert(0, self.arriving.pop(0))
            offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
            page = self.listed[offset : offset + limit]
            has_more = offset + limit < len(self.listed)
            return httpx.Response(200, json={"data": page, "has_more": has_more, "total": self.total})
        wanted = request.url.path.rpartition("/")[2]
        self.fetched.append(wanted)
        found = [record for record in self.listed if record["conversation_id"] == wanted]
        if not found:
            return httpx.Response(404, json={"error": {"message": "none", "type": "not_found"}})
        return httpx.Response(200, json={"data": found[0] | {"results": {"intent": "heard"}}})


class Walker:
    """Walks through a provider's conversations for one batch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database.url, database.queries, Metrics())
        self._healer = Healer(database, self._writer, Metrics(), lambda: datetime.now(UTC))
        self.saved: list[int] = []
        self.met: set[str] = set()

    async def walk(
        self, provider: Provider, batch_key: int, *, may_retry: bool = False, offset: int = 0,
        ended_at: datetime | None = None,
    ) -> Progress:  # fmt: skip
        async def save(progress: Progress) -> None:
            self.saved.append(progress.offset)

        transport = httpx.MockTransport(provider.answer)
        async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
            batch = HealedBatch(batch_key, AGENT_ID, STARTED, may_retry, ended_at)
            return await self._healer.walk(
                FormantClient(http, Metrics()), batch, Progress(offset=offset), save, self.met, searches=True
            )

    def close(self) -> None:
        self._writer.close()

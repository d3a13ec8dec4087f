"""The sandbox's own interface under ``/sandbox``: what really happened. No key needed.

| call | answer |
|---|---|
| `GET /sandbox` | this list |
| `GET /sandbox/batches/{id}/recipients?limit&offset` | the truth per recipient: row, phone, call parameters, state, \
attempts (default 1000 at a time, at most 10000) |
| `GET /sandbox/log` | counts, and the dials per batch and phone |
| `GET /sandbox/other-calls` | the truth of each call that is in no batch |
| `POST /sandbox/inbound-calls` | somebody calls an agent: JSON with `agent_id` and `from_phone` |
| `GET /sandbox/faults`, `POST /sandbox/faults` | the faults; POST takes JSON with those to change |
| `GET /sandbox/wait?batch_id&timeout` | answers once all calls are made and no delivery is outstanding, or with \
`done: false` after `timeout` real seconds (default 60, at most 600) |
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from service.sandbox.clock import Timeline, format_optional
from service.sandbox.faults import FaultChanges, Faults
from service.sandbox.http import ProviderError, read_number
from service.sandbox.records import Attempt, Batch, Journal, Records

_DEFAULT_LIMIT, _MAX_LIMIT = 1000, 10_000
_DEFAULT_WAIT_SECONDS, _MAX_WAIT_SECONDS = 60, 600
_ROWS_PER_TURN = 1000


@dataclass(frozen=True, eq=False)
class Witness:
    """Answers the calls under ``/sandbox``."""

    timeline: Timeline
    records: Records
    faults: Faults
    journal: Journal

    def routes(self) -> list[Route]:
        return [
            Route("/sandbox", self.show_help),
            Route("/sandbox/batches/{batch_id:int}/recipients", self.list_recipients),
            Route("/sandbox/log", self.show_log),
            Route("/sandbox/faults", self.show_faults),
            Route("/sandbox/faults", self.change_faults, methods=["POST"]),
            Route("/sandbox/wait", self.wait),
        ]

    async def show_help(self, request: Request) -> Response:
        return PlainTextResponse(__doc__)

    async def list_recipients(self, request: Request) -> Response:
        batch = self._find(request.path_params["batch_id"])
        limit, offset = read_number(request, "limit", _DEFAULT_LIMIT), read_number(request, "offset", 0)
        if not 1 <= limit <= _MAX_LIMIT or offset < 0:
            raise ProviderError(400, f"limit must be between 1 and {_MAX_LIMIT}, offset not negative.")
        rows = range(offset, min(offset + limit, batch.total))
        data = [describe_recipient(batch, row) for row in rows]
        return JSONResponse({"data": data, "has_more": rows.stop < batch.total, "total": batch.total})

    async def show_log(self, request: Request) -> Response:
        dials = {str(batch.id): await _count_dials(batch) for batch in list(self.records.batches.values())}
        return JSONResponse({"data": self.journal.describe() | {"dials_by_batch_and_phone": dials}})

    async def show_faults(self, request: Request) -> Response:
        return JSONResponse({"data": self.faults.describe()})

    async def change_faults(self, request: Request) -> Response:
        try:
            changes = msgspec.json.decode(await request.body(), type=FaultChanges)
        except msgspec.DecodeError as error:
            raise ProviderError(400, str(error)) from error
        self.faults.change(changes, self.timeline.now())
        return await self.show_faults(request)

    async def wait(self, request: Request) -> Response:
        batch = self._find(read_number(request, "batch_id", 0))
        seconds = min(max(0, read_number(request, "timeout", _DEFAULT_WAIT_SECONDS)), _MAX_WAIT_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await batch.settled.wait()
        except TimeoutError:
            return JSONResponse({"data": {"batch_id": batch.id, "done": False}})
        return JSONResponse({"data": {"batch_id": batch.id, "done": True}})

    def _find(self, batch_id: int) -> Batch:
        batch = self.records.batches.get(batch_id)
        if batch is None:
            raise ProviderError(404, "There is no such batch.")
        return batch


def describe_recipient(batch: Batch, row: int) -> dict[str, Any]:
    """What really happened to a row (counted from 0) of a batch."""
    phone, parameters = batch.contacts.read(row)
    return {
        "row": row,
        "phone": phone,
        "call_parameters": parameters,
        "state": batch.find_state(row),
        "attempts": [_describe_attempt(attempt) for attempt in batch.attempts.get(row, [])],
    }


def _describe_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "conversation_id": attempt.conversation_id,
        "number": attempt.number,
        "status": attempt.status,
        "started_at": format_optional(attempt.started_at),
        "ended_at": format_optional(attempt.ended_at),
        "duration_seconds": attempt.duration_seconds,
        "next_retry_at": format_optional(attempt.next_retry_at),
        "event_id": attempt.event_id,
        "deliveries": attempt.fates,
    }


async def _count_dials(batch: Batch) -> dict[str, int]:
    dials: Counter[str] = Counter()
    for index, (row, attempts) in enumerate(list(batch.attempts.items())):
        dials[batch.contacts.read(row)[0]] += len(attempts)
        if index % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    return dict(dials)

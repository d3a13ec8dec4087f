"""The provider's batch calls: upload, list, one, metrics. Shapes are those of the provider's own document."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.clock import Timeline, format_second
from service.sandbox.contacts import read_contacts
from service.sandbox.dialler import Dialler
from service.sandbox.faults import Faults, UploadFault
from service.sandbox.http import LateAnswer, NoAnswer, ProviderError, ProxyError, describe_end, read_agent, read_page
from service.sandbox.options import SandboxOptions
from service.sandbox.other_calls import OtherCalls
from service.sandbox.records import Batch, Journal, Records

_MAX_DIGITS = 18  # fits a bigint

_log = structlog.stdlib.get_logger()


@dataclass(kw_only=True, eq=False)
class BatchCalls:
    """Answers the four calls of the provider's document "Batch Calls"."""

    options: SandboxOptions
    timeline: Timeline
    records: Records
    dialler: Dialler
    other_calls: OtherCalls
    faults: Faults
    journal: Journal

    def routes(self) -> list[Route]:
        return [
            Route("/v1/batch-call", self.upload, methods=["POST"]),
            Route("/v1/batch-calls", self.list_batches),
            Route("/v1/batch-calls/{batch_id}", self.show_batch),
            Route("/v1/batch-calls/{batch_id}/metrics", self.show_metrics),
        ]

    async def upload(self, request: Request) -> Response:
        fault = self.faults.take_next_upload()
        try:
            async with request.form() as form:
                agent_id, name = _read_agent_id(form.get("agent_id")), _read_name(form.get("name"))
                content = await _read_file(form.get("file"))
            self._refuse(fault, agent_id)
            if fault == "refused_after_body":
                self.journal.uploads_refused += 1
                return NoAnswer()
            contacts, digest = await asyncio.to_thread(
                lambda: (read_contacts(content), hashlib.sha256(content).hexdigest())
            )
        except Exception:
            self.journal.uploads_refused += 1
            raise
        # Whole milliseconds, here and later, so that webhooks and conversations show the same times.
        batch = self.records.add_batch(name, agent_id, contacts, digest, round(self.timeline.now(), 3))
        self.journal.uploads[digest] += 1
        self.dialler.begin(batch)
        self.other_calls.strew(batch)
        _log.info("sandbox_batch_accepted", batch_id=batch.id, agent_id=agent_id, recipients=batch.total)
        return self._answer(batch, fault)

    def _refuse(self, fault: UploadFault | None, agent_id: int) -> None:
        if fault == "proxy_429":
            raise ProxyError(429)
        if fault is not None and fault.isdigit():
            headers = {"Retry-After": "1"} if fault == "429" else {}
            raise ProviderError(int(fault), f"A fault of the sandbox: next_upload {fault}.", headers=headers)
        if self.options.agents and agent_id not in self.options.agents:
            raise ProviderError(404, f"There is no agent {agent_id}.")
        limit = self.options.max_active_batches
        if limit is not None and self.records.count_active() >= limit:
            message = f"{limit} batches are already being called."
            raise ProviderError(429, message, kind="concurrent_call_limit_exceeded", headers={"Retry-After": "1"})

    def _answer(self, batch: Batch, fault: UploadFault | None) -> Response:
        answer = JSONResponse({"data": _describe_batch(batch)})
        if fault is not None and fault.startswith("accepted_"):
            status = int(fault.removeprefix("accepted_"))
            raise ProviderError(status, "A fault of the sandbox: the batch is being called anyway.")
        if fault == "lost_answer":
            return NoAnswer()
        return LateAnswer(answer, self.faults) if fault == "hang" else answer

    async def list_batches(self, request: Request) -> Response:
        (limit, offset), agent_id = read_page(request, self.faults), read_agent(request)
        batches = [b for b in reversed(self.records.batches.values()) if agent_id in (None, b.agent_id)]
        page = batches[offset : offset + limit]
        if self.faults.odd_entries:
            body: dict[str, Any] = {"data": [*map(_describe_oddly, page), *_ODD_ENTRIES]}
        else:
            body = {"data": [self._shape_batch(batch) for batch in page]}
        if self.options.list_totals or self.faults.always_more:
            body |= describe_end(self.faults, offset + len(page), len(batches))
        return JSONResponse(body)

    async def show_batch(self, request: Request) -> Response:
        return JSONResponse({"data": self._shape_batch(self._find(request))})

    async def show_metrics(self, request: Request) -> Response:
        return JSONResponse({"data": self._find(request).metrics()})

    def _shape_batch(self, batch: Batch) -> dict[str, Any]:
        return self.records.reshape(_describe_batch(batch))

    def _find(self, request: Request) -> Batch:
        text = request.path_params["batch_id"]
        batch = self.records.batches.get(int(text)) if text.isascii() and text.isdigit() else None
        if batch is None:
            raise ProviderError(404, "There is no such batch.")
        return batch


def _describe_batch(batch: Batch) -> dict[str, Any]:
    """A batch as the provider shows it."""
    return {
        "id": batch.id,
        "name": batch.name,
        "agent_id": batch.agent_id,
        "status": batch.status,
        "total_recipients": batch.total,
        "created_at": format_second(batch.created_at),
    }


_ODD_ENTRIES: list[Any] = [
    None,
    7,
    "batch",
    [],
    {},
    {"id": None, "agent_id": 123, "name": "Nameless", "status": "pending", "total_recipients": 1},
    {"id": "b-1", "agent_id": 123},
    {"id": -1, "agent_id": 123},
    {"id": 900001, "agent_id": None, "name": None, "status": 7, "total_recipients": None, "created_at": 0},
    {"id": 900002, "agent_id": {"id": 123}, "name": ["March"], "status": {}, "total_recipients": "many"},
]
"""Entries that the contract does not allow; the last two have an id but no agent."""


def _describe_oddly(batch: Batch) -> dict[str, Any]:
    """A batch with types that the contract does not name, and with fields missing."""
    return {
        "id": str(batch.id),
        "agent_id": str(batch.agent_id),
        "name": None,
        "status": 7,
        "created_at": batch.created_at,
    }


def _read_agent_id(value: UploadFile | str | None) -> int:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > _MAX_DIGITS:
        raise ProviderError(400, "agent_id is required and must be a number.")
    return int(value)


def _read_name(value: UploadFile | str | None) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ProviderError(400, "name is required.")
    return value


async def _read_file(value: UploadFile | str | None) -> bytes:
    if not isinstance(value, UploadFile):
        raise ProviderError(400, "file is required: a CSV file, sent as multipart/form-data.")
    if not (value.filename or "").lower().endswith(".csv"):
        raise ProviderError(400, "file must be a .csv file.")
    return await value.read()

"""Calls that are in no batch: single calls (``POST /v1/call``) and inbound ones, which the sandbox itself is asked for.

Their webhooks come to the same targets as a batch's. The provider's document does not name all fields of a single call;
these are the likeliest. A call is played like a batch of one row that is listed nowhere, and is never tried again.
"""

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.calls import seeded_random
from service.sandbox.clock import Timeline
from service.sandbox.contacts import Contacts, read_contacts
from service.sandbox.dialler import Dialler
from service.sandbox.events import EventWriter
from service.sandbox.http import ProviderError
from service.sandbox.options import SandboxOptions
from service.sandbox.records import Batch
from service.sandbox.witness import describe_recipient

_SPREAD_SECONDS = 3600.0
"""Other calls with a batch's people begin within this time after the batch."""


class _SingleCall(msgspec.Struct):
    agent_id: int
    to_phone: str
    call_parameters: dict[str, str] = {}
    idempotency_key: str | None = None
    scheduled_for: datetime | None = None
    metadata: Any = None


class _InboundCall(msgspec.Struct):
    agent_id: int
    from_phone: str


@dataclass(kw_only=True, eq=False)
class OtherCalls:
    """Takes single and inbound calls. ``calls`` are those of this run, in the order in which they were asked for."""

    options: SandboxOptions
    seed: int
    timeline: Timeline
    dialler: Dialler
    writer: EventWriter
    calls: list[Batch] = field(default_factory=list)
    _keys: set[tuple[int, str]] = field(default_factory=set)

    def routes(self) -> list[Route]:
        return [
            Route("/v1/call", self.place, methods=["POST"]),
            Route("/sandbox/inbound-calls", self.receive, methods=["POST"]),
            Route("/sandbox/other-calls", self.list_calls),
        ]

    async def place(self, request: Request) -> Response:
        wanted = _decode(await request.body(), _SingleCall)
        if wanted.idempotency_key is not None:
            key = (wanted.agent_id, wanted.idempotency_key)
            if key in self._keys:
                raise ProviderError(409, "A call with this idempotency_key exists.")
            self._keys.add(key)
        now = self.timeline.now()
        when = max(now, wanted.scheduled_for.timestamp()) if wanted.scheduled_for else now
        call = self.begin("single", wanted.agent_id, wanted.to_phone, wanted.call_parameters, when)
        status = "scheduled" if when > now else "initiated"
        return JSONResponse({"data": {"status": status, "trace_id": self.writer.name_first_trace(call)}})

    async def receive(self, request: Request) -> Response:
        wanted = _decode(await request.body(), _InboundCall)
        call = self.begin("inbound", wanted.agent_id, wanted.from_phone, {}, self.timeline.now())
        return JSONResponse({"data": {"trace_id": self.writer.name_first_trace(call)}})

    async def list_calls(self, request: Request) -> Response:
        """The truth of each call that is in no batch."""
        data = [{"kind": call.kind, "agent_id": call.agent_id, **describe_recipient(call, 0)} for call in self.calls]
        return JSONResponse({"data": data, "by_kind": dict(Counter(call.kind for call in self.calls))})

    def begin(
        self, kind: Literal["single", "inbound"], agent_id: int, phone: str, parameters: dict[str, str], when: float
    ) -> Batch:
        """Plans a call; raises ``ProviderError`` 400 for a phone that cannot be dialled."""
        call = Batch(
            id=0,
            ordinal=-len(self.calls) - 1,
            name="",
            agent_id=agent_id,
            contacts=_write_contacts(phone, parameters),
            file_sha256="",
            created_at=round(when, 3),
            kind=kind,
        )
        self.calls.append(call)
        self.dialler.begin(call)
        return call

    def strew(self, batch: Batch) -> None:
        """Plans other calls with some of a batch's people, by ``options.other_share``."""
        for row in range(batch.total if self.options.other_share else 0):
            chance = seeded_random(self.seed, "other", batch.ordinal, row)
            if chance.random() < self.options.other_share:
                kind: Literal["single", "inbound"] = chance.choice(("single", "inbound"))
                phone, _ = batch.contacts.read(row)
                when = batch.created_at + chance.uniform(0, _SPREAD_SECONDS)
                self.begin(kind, batch.agent_id, phone, {"source": "app"} if kind == "single" else {}, when)


def _decode(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise ProviderError(400, str(error)) from error


def _write_contacts(phone: str, parameters: dict[str, str]) -> Contacts:
    target = io.StringIO()
    row = {"customer_phone": phone, **parameters}
    writer = csv.writer(target, lineterminator="\n")
    writer.writerows([row.keys(), row.values()])
    return read_contacts(target.getvalue().encode())

"""The provider's conversations, "the source of truth for later reconciliation": one record per call attempt."""

import io
import math
import struct
import wave
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.calls import write_dialogue
from service.sandbox.dialler import Dialler
from service.sandbox.events import EventWriter
from service.sandbox.faults import Faults
from service.sandbox.http import ProviderError, describe_end, read_agent, read_page
from service.sandbox.records import Attempt, Records

_SAMPLES_PER_SECOND, _TONE_HERTZ = 8000, 440


@dataclass(frozen=True, eq=False)
class Conversations:
    """Answers the list, one conversation and its recording."""

    records: Records
    dialler: Dialler
    writer: EventWriter
    faults: Faults

    def routes(self) -> list[Route]:
        return [
            Route("/v1/conversations", self.list_conversations),
            Route("/v1/conversations/{conversation_id}", self.show_conversation),
            Route("/v1/conversations/{conversation_id}/recording", self.show_recording),
        ]

    async def list_conversations(self, request: Request) -> Response:
        (limit, offset), agent_id = read_page(request, self.faults), read_agent(request)
        page, total = self.records.list_conversations(agent_id, limit, offset, oldest_first=self.faults.oldest_first)
        data = [_summarise(attempt) for attempt in page]
        return JSONResponse({"data": data, **describe_end(self.faults, offset + len(page), total)})

    async def show_conversation(self, request: Request) -> Response:
        attempt = self._find(request)
        results = self.writer.draw_results(attempt)
        _, parameters = attempt.batch.contacts.read(attempt.row)
        dialogue = write_dialogue(parameters, results) if results else []
        details = {
            "failure_reason": self.dialler.recall(attempt).failure_reason if attempt.status else None,
            "results": {} if self.faults.no_results else self.writer.show_results(attempt),
            "trace_id": self.writer.name_trace(attempt),
            # The documentation names no roles; these are the webhook's.
            "transcript": [{"role": role, "message": message} for role, message in dialogue],
        }
        return JSONResponse({"data": _summarise(attempt) | details})

    async def show_recording(self, request: Request) -> Response:
        if self._find(request).status != "completed":
            raise ProviderError(404, "There is no recording of this conversation.")
        return Response(_make_tone(), media_type="audio/wav")

    def _find(self, request: Request) -> Attempt:
        attempt = self.records.find_conversation(request.path_params["conversation_id"])
        if attempt is None:
            raise ProviderError(404, "There is no such conversation.")
        return attempt


def _summarise(attempt: Attempt) -> dict[str, Any]:
    phone, _ = attempt.batch.contacts.read(attempt.row)
    return {
        "agent_id": attempt.batch.agent_id,
        "contact_number": phone,
        "conversation_id": attempt.conversation_id,
        "duration_seconds": attempt.duration_seconds,
        "end_timestamp": _to_milliseconds(attempt.ended_at),
        "start_timestamp": _to_milliseconds(attempt.started_at or attempt.dialled_at),
        "status": attempt.status or "in_progress",
    }


def _to_milliseconds(when: float | None) -> int | None:
    return None if when is None else round(when * 1000)


def _make_tone() -> bytes:
    """A WAV file: a quarter of a second of a quiet tone."""
    samples = (
        round(4000 * math.sin(2 * math.pi * _TONE_HERTZ * index / _SAMPLES_PER_SECOND))
        for index in range(_SAMPLES_PER_SECOND // 4)
    )
    target = io.BytesIO()
    with wave.open(target, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(_SAMPLES_PER_SECOND)
        audio.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return target.getvalue()

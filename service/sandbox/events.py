"""The webhook body of an ended call, for one target."""

from dataclasses import dataclass
from typing import Any

import msgspec

from service.sandbox.calls import (
    Call,
    derive_uuid,
    draw_caller,
    draw_results,
    join_dialogue,
    name_caller,
    seeded_random,
    write_dialogue,
)
from service.sandbox.clock import format_optional
from service.sandbox.languages import translate
from service.sandbox.options import SandboxOptions, WebhookTarget
from service.sandbox.records import Attempt, Batch


@dataclass(eq=False)
class EventWriter:
    """Writes events: the same attempt and target always give the same bytes."""

    options: SandboxOptions
    seed: int
    base_url: str = ""
    """The base of recording addresses; known once the sandbox is served."""

    def name_event(self, attempt: Attempt) -> str:
        return "evt_" + derive_uuid(self.seed, "event", attempt.batch.ordinal, attempt.row, attempt.number)

    def show_results(self, attempt: Attempt) -> dict[str, Any]:
        """The results of an attempt as the provider shows them: in the recipient's language."""
        results, languages = self.draw_results(attempt), self.options.languages
        chance = seeded_random(self.seed, "language", attempt.batch.ordinal, attempt.row)
        return translate(results, languages[0] if len(languages) == 1 else chance.choice(languages))

    def draw_results(self, attempt: Attempt) -> dict[str, Any]:
        """The results of an attempt, in English; empty unless it is completed."""
        if attempt.status != "completed" or attempt.started_at is None:
            return {}
        place = (attempt.batch.ordinal, attempt.row, attempt.number)
        return draw_results(self.seed, *place, attempt.started_at)

    def name_trace(self, attempt: Attempt) -> str:
        return derive_uuid(self.seed, "trace", attempt.batch.ordinal, attempt.row, attempt.number).replace("-", "")

    def name_first_trace(self, batch: Batch) -> str:
        """The trace of the first attempt to a batch's first row."""
        return derive_uuid(self.seed, "trace", batch.ordinal, 0, 1).replace("-", "")

    def name_caller(self, attempt: Attempt) -> str:
        place = (attempt.batch.ordinal, attempt.row, attempt.number)
        return name_caller(attempt.batch.agent_id, draw_caller(self.seed, *place, self.options.caller_numbers))

    def write(self, attempt: Attempt, call: Call, target: WebhookTarget) -> bytes:
        """The raw body."""
        phone, parameters = attempt.batch.contacts.read(attempt.row)
        results = self.draw_results(attempt)
        data: dict[str, Any] = {
            "call": self._describe_call(attempt, call, target, phone, parameters),
            **self._describe_outcome(attempt, self.show_results(attempt)),
        }
        if target.transcript:
            # Not documented: the transcript of an unanswered call.
            data["transcript"] = join_dialogue(write_dialogue(parameters, results)) if results else None
        envelope = {
            "event_id": attempt.event_id,
            "event_type": f"call.{attempt.status}",
            "timestamp": format_optional(attempt.closed_at),
            "data": data,
        }
        return msgspec.json.encode(envelope)

    def _describe_call(
        self, attempt: Attempt, call: Call, target: WebhookTarget, phone: str, parameters: dict[str, str]
    ) -> dict[str, Any]:
        has_recording = target.recording and attempt.status == "completed"
        path = f"/v1/conversations/{attempt.conversation_id}/recording"
        is_inbound = attempt.batch.kind == "inbound"
        return {
            "agent_id": attempt.batch.agent_id,
            "call_parameters": parameters,
            "conversation_id": attempt.conversation_id,
            "duration_seconds": attempt.duration_seconds,
            "started_at": format_optional(attempt.started_at),
            "ended_at": format_optional(attempt.ended_at),
            "failure_reason": call.failure_reason,
            "from_phone": phone if is_inbound else self.name_caller(attempt),
            "to_phone": name_caller(attempt.batch.agent_id, 0) if is_inbound else phone,
            "recording_url": self.base_url + path if has_recording else None,
            "status": attempt.status,
            "trace_id": self.name_trace(attempt),
        }

    def _describe_outcome(self, attempt: Attempt, results: dict[str, Any]) -> dict[str, Any]:
        is_answered = attempt.status == "completed"
        # Not documented: whether unanswered calls have these blocks. So it is an option.
        if not is_answered and self.options.unanswered == "absent":
            return {}
        is_bare = not is_answered and self.options.unanswered == "null"
        has_context = attempt.number > 1 or not is_answered
        context = {
            "collected_data": {},
            "retry_initial_message": f"Hello, this is our call number {attempt.number} to you.",
            "retry_language": "en-IN",
            "retry_stage_id": f"stage_{attempt.number}",
        }
        return {
            "results": None if is_bare else results,
            "retry": {
                "attempt_number": attempt.number,
                "max_attempts": self.options.max_attempts,
                # Taken to mean that no further attempt follows, so it is true for every completed call.
                "is_final_attempt": attempt.next_retry_at is None,
                "next_retry_at": format_optional(attempt.next_retry_at),
            },
            "retry_context": context if has_context and not is_bare else None,
        }

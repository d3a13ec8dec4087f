"""What the provider knows: batches, their recipients' attempts, and the conversation record of every attempt.

Only what cannot be drawn again is kept: what is said in a call follows from the seed (see ``calls``).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.sandbox.contacts import Contacts
from service.sandbox.options import STATUSES, CallKind, ConversationIds, ConversationsShown


@dataclass(slots=True, eq=False)
class Attempt:
    """One call. Times are virtual; ``status`` is None during the call."""

    batch: "Batch"
    row: int
    number: int
    conversation_id: str
    dialled_at: float
    status: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    duration_seconds: int | None = None
    closed_at: float | None = None
    next_retry_at: float | None = None
    event_id: str | None = None
    fates: list[str] = field(default_factory=list)
    """The state of the event at each target: pending, acknowledged, refused, given_up, dropped or unwanted."""


@dataclass(slots=True, eq=False)
class Batch:
    """One upload. ``ordinal`` counts the batches of this run from 1 and takes part in the seed; ``id`` does not."""

    id: int
    ordinal: int
    name: str
    agent_id: int
    contacts: Contacts
    file_sha256: str
    created_at: float
    next_row: int = 0
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    """Number of recipients that get no further call, by the status of their last attempt."""
    pending_retry: int = 0
    talk_seconds: int = 0
    kind: CallKind = "batch"
    """``single`` or ``inbound``: a call of its own, played like a batch of one row, and listed nowhere."""
    hanging: int = 0
    """Number of recipients whose call never ends."""
    outstanding: int = 0
    """Number of deliveries, forged copies included, that are planned or under way."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all recipients are finished or hang, and nothing is outstanding."""

    @property
    def total(self) -> int:
        return len(self.contacts)

    @property
    def processed(self) -> int:
        return sum(self.finished.values())

    @property
    def status(self) -> str:
        # The documentation names ``pending`` only; these are the likeliest words for the rest.
        if self.next_row == 0:
            return "pending"
        return "completed" if self.processed == self.total else "in_progress"

    def finish_delivery(self) -> None:
        self.outstanding -= 1
        self.note_progress()

    def note_progress(self) -> None:
        """Sets ``settled`` when nothing is left to do."""
        if not self.outstanding and self.processed + self.hanging == self.total:
            self.settled.set()

    def find_state(self, row: int) -> str:
        """A recipient's state: in_progress, pending_retry or the final status."""
        calls = self.attempts.get(row)
        if not calls or calls[-1].status is None:
            return "in_progress"
        return "pending_retry" if calls[-1].next_retry_at is not None else calls[-1].status

    def metrics(self) -> dict[str, int | float]:
        """The twelve figures of ``GET /v1/batch-calls/{id}/metrics``. They count recipients, not attempts.

        At any instant processed + in progress + waiting for a retry = all recipients. A recipient before its first call
        is in progress, and so is one during a retry. ``telephony_failed`` has no figure of its own and is counted in
        ``failed_count``.
        """
        finished = self.finished
        completed = finished["completed"]
        return {
            "avg_duration_seconds": round(self.talk_seconds / completed, 1) if completed else 0.0,
            "busy_count": finished["busy"],
            "completed_count": completed,
            "failed_count": finished["failed"] + finished["telephony_failed"],
            "in_progress_count": self.total - self.processed - self.pending_retry,
            "no_answer_count": finished["no_answer"],
            "pending_retry_count": self.pending_retry,
            "socket_failure_count": finished["socket_failure"],
            "success_count": completed,
            "success_rate": round(100 * completed / self.total, 1),
            "total_processed": self.processed,
            "unreachable_count": finished["unreachable"],
        }


class Records:
    """All batches, and all conversations in the order in which they were first listed."""

    def __init__(self, first_batch_id: int, ids: ConversationIds, shown: ConversationsShown) -> None:
        self._first_batch_id = first_batch_id
        self._ids = ids
        self._shown = shown
        self.batches: dict[int, Batch] = {}
        self.reshape: Callable[[dict[str, Any]], dict[str, Any]] = dict
        """Changes how batches are listed and shown; tests assign one for a provider with quirks."""
        self._by_agent: dict[int, list[Attempt]] = {}
        self._all: list[Attempt] = []
        self._by_id: dict[str, Attempt] = {}

    def add_batch(self, name: str, agent_id: int, contacts: Contacts, file_sha256: str, created_at: float) -> Batch:
        ordinal = len(self.batches) + 1
        batch = Batch(
            id=self._first_batch_id + ordinal - 1,
            ordinal=ordinal,
            name=name,
            agent_id=agent_id,
            contacts=contacts,
            file_sha256=file_sha256,
            created_at=created_at,
        )
        self.batches[batch.id] = batch
        return batch

    def count_active(self) -> int:
        """The number of batches that still have calls to make."""
        return sum(batch.processed < batch.total for batch in self.batches.values())

    def name_conversation(self, recipient_uuid: str, number: int) -> str:
        # Not documented: whether a retry keeps its conversation_id. The example's suffix suggests the attempt number.
        return f"{recipient_uuid}_{number if self._ids == 'per-attempt' else 1}"

    def open_conversation(self, attempt: Attempt) -> None:
        attempt.batch.attempts.setdefault(attempt.row, []).append(attempt)
        if self._shown == "all":
            self._add_conversation(attempt)

    def close_conversation(self, attempt: Attempt) -> None:
        if self._shown == "ended":
            self._add_conversation(attempt)

    def list_conversations(
        self, agent_id: int | None, limit: int, offset: int, *, oldest_first: bool = False
    ) -> tuple[list[Attempt], int]:
        """A page, newest first unless ``oldest_first``, and the total.

        The newest is the call that ended last or, where ongoing calls are shown too, the one dialled last.
        """
        shown = self._all if agent_id is None else self._by_agent.get(agent_id, [])
        if oldest_first:
            return shown[offset : offset + limit], len(shown)
        end = max(0, len(shown) - offset)
        return shown[max(0, end - limit) : end][::-1], len(shown)

    def find_conversation(self, conversation_id: str) -> Attempt | None:
        """The conversation; of several attempts that share the id, the latest."""
        return self._by_id.get(conversation_id)

    def _add_conversation(self, attempt: Attempt) -> None:
        self._all.append(attempt)
        self._by_agent.setdefault(attempt.batch.agent_id, []).append(attempt)
        self._by_id[attempt.conversation_id] = attempt


@dataclass(slots=True, eq=False)
class Journal:
    """What the provider did, counted since the start. ``uploads`` counts accepted files by SHA-256: 2 is twice."""

    uploads: Counter[str] = field(default_factory=Counter)
    uploads_refused: int = 0
    dials: int = 0
    events: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    """attempted (outages included), acknowledged (2xx), refused (4xx, final), failed (an attempt that may be repeated),
    given_up (after the third attempt), dropped, duplicated, delayed."""
    api: Counter[str] = field(default_factory=Counter)
    """Requests with a known key: within_limit, and over_limit (429 from the limit itself, not as a fault)."""
    forged: Counter[str] = field(default_factory=Counter)
    """sent, and accepted (answered 2xx, which a receiver that checks signatures never does)."""

    def describe(self) -> dict[str, Any]:
        deliveries = ("attempted", "acknowledged", "refused", "failed", "given_up", "dropped", "duplicated", "delayed")
        return {
            "uploads": dict(self.uploads),
            "uploads_refused": self.uploads_refused,
            "dials": self.dials,
            "events": self.events,
            "deliveries": {name: self.deliveries[name] for name in deliveries},
            "api": {name: self.api[name] for name in ("within_limit", "over_limit")},
            "forged": {name: self.forged[name] for name in ("sent", "accepted")},
        }

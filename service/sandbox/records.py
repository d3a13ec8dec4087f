"""What the provider knows: batches, their recipients' attempts, and the conversation record of every attempt.

Only what cannot be drawn again is kept: what was said in a call follows from the seed (``calls``, ``talk``).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.sandbox.contacts import Contacts
from service.sandbox.options import STATUSES, ConversationIds, ConversationsShown


@dataclass(slots=True, eq=False)
class Attempt:
    """One call. Times are virtual; ``status`` is None while the call is going on."""

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
    """How the event fared at each target: pending, acknowledged, refused, given_up, dropped or unwanted."""


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
    """Recipients that are called no more, by the status of their last attempt."""
    pending_retry: int = 0
    talk_seconds: int = 0
    outstanding: int = 0
    """Deliveries and forged copies on their way, or planned."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nobody is called any more and nothing is outstanding."""

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

    def put_on_its_way(self) -> None:
        self.outstanding += 1

    def take_from_its_way(self) -> None:
        self.outstanding -= 1
        self.note_progress()

    def note_progress(self) -> None:
        """Sets ``settled`` when this was the last thing to do."""
        if not self.outstanding and self.processed == self.total:
            self.settled.set()

    def find_state(self, row: int) -> str:
        """What a recipient is counted as: in_progress, pending_retry or the final status."""
        calls = self.attempts.get(row)
        if not calls or calls[-1].status is None:
            return "in_progress"
        return "pending_retry" if calls[-1].next_retry_at is not None else calls[-1].status


class Records:
    """All batches, and all conversations in the order in which they came to be seen."""

    def __init__(self, first_batch_id: int, ids: ConversationIds, shown: ConversationsShown) -> None:
        self._first_batch_id = first_batch_id
        self._ids = ids
        self._shown = shown
        self.batches: dict[int, Batch] = {}
        self.retell: Callable[[dict[str, Any]], dict[str, Any]] = dict
        """Changes how batches are listed and shown, for programs that want a provider with quirks."""
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
        """How many batches still have somebody to call."""
        return sum(batch.processed < batch.total for batch in self.batches.values())

    def name_conversation(self, recipient_uuid: str, number: int) -> str:
        # Unknown: whether a retry keeps its conversation_id. The example's suffix suggests the attempt's number.
        return f"{recipient_uuid}_{number if self._ids == 'per-attempt' else 1}"

    def open_conversation(self, attempt: Attempt) -> None:
        attempt.batch.attempts.setdefault(attempt.row, []).append(attempt)
        if self._shown == "all":
            self._show(attempt)

    def close_conversation(self, attempt: Attempt) -> None:
        if self._shown == "ended":
            self._show(attempt)

    def list_conversations(self, agent_id: int | None, limit: int, offset: int) -> tuple[list[Attempt], int]:
        """A page, newest first, and the number of all.

        The newest is what ended last; where calls that go on are shown too, it is what was dialled last.
        """
        shown = self._all if agent_id is None else self._by_agent.get(agent_id, [])
        end = max(0, len(shown) - offset)
        return shown[max(0, end - limit) : end][::-1], len(shown)

    def find_conversation(self, conversation_id: str) -> Attempt | None:
        """The conversation; of several attempts that share the id, the latest."""
        return self._by_id.get(conversation_id)

    def _show(self, attempt: Attempt) -> None:
        self._all.append(attempt)
        self._by_agent.setdefault(attempt.batch.agent_id, []).append(attempt)
        self._by_id[attempt.conversation_id] = attempt


@dataclass(slots=True, eq=False)
class Journal:
    """Counts since the start. ``uploads`` are those accepted, by the file's SHA-256; so twice means called twice."""

    uploads: Counter[str] = field(default_factory=Counter)
    uploads_refused: int = 0
    dials: int = 0
    events: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    """attempted (requests that set out, or would have but for an outage), acknowledged (2xx), refused (4xx, never sent
    again), failed (to be sent again, or not), given_up (after the third), dropped, duplicated, delayed."""
    api: Counter[str] = field(default_factory=Counter)
    """Requests to the API with a known key: within_limit, and over_limit (429 by the limit itself, not as a fault)."""
    forged: Counter[str] = field(default_factory=Counter)
    """sent, and accepted: answered 2xx, which a receiver that checks signatures never does."""

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


def read_figures(batch: Batch) -> dict[str, int | float]:
    """The figures as of now; at any instant processed + in progress + waiting for a retry = all recipients.

    A recipient that nobody has called yet is in progress, and so is one whose retry is being dialled: there is no
    other figure for it. ``telephony_failed`` has none of its own either and is counted in ``failed_count``.
    """
    finished = batch.finished
    completed = finished["completed"]
    return {
        "avg_duration_seconds": round(batch.talk_seconds / completed, 1) if completed else 0.0,
        "busy_count": finished["busy"],
        "completed_count": completed,
        "failed_count": finished["failed"] + finished["telephony_failed"],
        "in_progress_count": batch.total - batch.processed - batch.pending_retry,
        "no_answer_count": finished["no_answer"],
        "pending_retry_count": batch.pending_retry,
        "socket_failure_count": finished["socket_failure"],
        "success_count": completed,
        "success_rate": round(100 * completed / batch.total, 1),
        "total_processed": batch.processed,
        "unreachable_count": finished["unreachable"],
    }

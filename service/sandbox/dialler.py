"""Plays the calls: a limited number of lines per agent, retries before fresh recipients, batches in turn.

A recipient is only a row number until its first call; nothing is kept for it before.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.sandbox.calls import WEAK_SHARE, Call, derive_uuid, draw_call, draw_caller, seeded_random
from service.sandbox.clock import Timeline
from service.sandbox.faults import Faults
from service.sandbox.options import SandboxOptions
from service.sandbox.records import Attempt, Batch, Journal, Records

_PREPARATION_SECONDS = 2.0
"""From an upload to its first dial: the batch is ``pending``."""
_DIALS_PER_STEP = 100
"""Maximum number of dials before other callbacks run."""


@dataclass(slots=True, eq=False)
class _Desk:
    """One agent's lines, and the calls waiting for them."""

    free: int
    retries: deque[tuple[Batch, int, int]] = field(default_factory=deque)
    batches: deque[Batch] = field(default_factory=deque)

    def take_next(self) -> tuple[Batch, int, int] | None:
        """The next (batch, row, attempt number) to dial."""
        if self.retries:
            return self.retries.popleft()
        if not self.batches:
            return None
        batch = self.batches.popleft()
        row = batch.next_row
        batch.next_row += 1
        if batch.next_row < batch.total:
            self.batches.append(batch)
        return batch, row, 1


@dataclass(kw_only=True, eq=False)
class Dialler:
    """Dials, ends calls and plans retries. ``on_end`` is called for every call at the moment it ends."""

    options: SandboxOptions
    seed: int
    timeline: Timeline
    records: Records
    faults: Faults
    journal: Journal
    on_end: Callable[[Attempt, Call], None]
    _desks: dict[int, _Desk] = field(default_factory=dict)

    def begin(self, batch: Batch) -> None:
        """Plans the first dial of a batch just uploaded."""
        self.timeline.call_at(batch.created_at + _PREPARATION_SECONDS, self._open, batch)

    def recall(self, attempt: Attempt) -> Call:
        """The call of an attempt, drawn again."""
        batch = attempt.batch
        is_weak = self.options.weak_caller and self.find_caller(attempt) == self.options.caller_numbers - 1
        return draw_call(
            self.seed,
            batch.ordinal,
            attempt.row,
            attempt.number,
            completed_share=self.options.completed_share * (WEAK_SHARE if is_weak else 1),
            script=("completed",) if batch.kind == "inbound" else self._find_script(batch, attempt.row),
        )

    def _find_script(self, batch: Batch, row: int) -> Sequence[str]:
        script = self.options.script
        return script.get(batch.contacts.read(row)[0], ()) if script else ()

    def find_caller(self, attempt: Attempt) -> int:
        """Which of the agent's numbers makes this attempt, from 0."""
        place = (attempt.batch.ordinal, attempt.row, attempt.number)
        return draw_caller(self.seed, *place, self.options.caller_numbers)

    def _open(self, when: float, batch: Batch) -> None:
        desk = self._desks.setdefault(batch.agent_id, _Desk(self.options.lines))
        desk.batches.append(batch)
        self._fill_lines(when, desk)

    def _fill_lines(self, when: float, desk: _Desk) -> None:
        for _ in range(_DIALS_PER_STEP):
            job = desk.take_next() if desk.free else None
            if job is None:
                return
            self._dial(when, desk, *job)
        self.timeline.call_at(when, self._fill_lines, desk)

    def _dial(self, when: float, desk: _Desk, batch: Batch, row: int, number: int) -> None:
        desk.free -= 1
        if not self.journal.dials:
            self.faults.note_first_dial(when)
        self.journal.dials += 1
        if number > 1:
            batch.pending_retry -= 1
        uuid = derive_uuid(self.seed, "conversation", batch.ordinal, row)
        attempt = Attempt(batch, row, number, self.records.name_conversation(uuid, number), when)
        self.records.open_conversation(attempt)
        if self.faults.hang and self._draw_hang(batch, row) < self.faults.hang:
            batch.hanging += 1
            batch.note_progress()
            desk.free += 1
            return
        call = self.recall(attempt)
        length = call.seconds_before + (call.duration_seconds or 0)
        self.timeline.call_at(when + length, self._end, desk, attempt, call)

    def _draw_hang(self, batch: Batch, row: int) -> float:
        return seeded_random(self.seed, "hang", batch.ordinal, row).random()

    def _end(self, when: float, desk: _Desk, attempt: Attempt, call: Call) -> None:
        attempt.status = call.status
        attempt.closed_at = when
        attempt.duration_seconds = call.duration_seconds
        attempt.started_at = attempt.dialled_at
        if call.is_connected:
            attempt.started_at += call.seconds_before
            attempt.ended_at = when
        self._settle(when, attempt, call, desk)
        self.records.close_conversation(attempt)
        self.journal.events += 1
        self.on_end(attempt, call)
        attempt.batch.note_progress()
        desk.free += 1
        self._fill_lines(when, desk)

    def _settle(self, when: float, attempt: Attempt, call: Call, desk: _Desk) -> None:
        batch = attempt.batch
        if call.status == "completed":
            batch.talk_seconds += call.duration_seconds or 0
        elif batch.kind == "batch" and attempt.number < self.options.max_attempts:
            attempt.next_retry_at = round(when + self.options.retry_seconds * call.retry_factor, 3)
            batch.pending_retry += 1
            self.timeline.call_at(attempt.next_retry_at, self._ready, desk, batch, attempt.row, attempt.number + 1)
            return
        batch.finished[call.status] += 1

    def _ready(self, when: float, desk: _Desk, batch: Batch, row: int, number: int) -> None:
        desk.retries.append((batch, row, number))
        self._fill_lines(when, desk)

"""Plays the calls: a limited number of lines per agent, retries before fresh recipients, batches in turn.

A recipient that has not been dialled is only a row number. Nothing is held per recipient until its first call.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from service.sandbox.calls import Call, derive_uuid, draw_call
from service.sandbox.clock import Timeline
from service.sandbox.faults import Faults
from service.sandbox.options import SandboxOptions
from service.sandbox.records import Attempt, Batch, Journal, Records

_PREPARATION_SECONDS = 2.0
"""Between an upload and its first dial: the batch is ``pending``."""
_DIALS_PER_STEP = 100
"""With many free lines, others get a turn after this many dials."""


@dataclass(slots=True, eq=False)
class _Desk:
    """One agent's lines and what waits for them."""

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


class Dialler:
    """Dials, ends calls, plans retries; tells ``on_end`` of every call that has ended, at the moment it ends."""

    def __init__(
        self,
        *,
        options: SandboxOptions,
        seed: int,
        timeline: Timeline,
        records: Records,
        faults: Faults,
        journal: Journal,
        on_end: Callable[[Attempt, Call], None],
    ) -> None:
        self._options = options
        self._seed = seed
        self._timeline = timeline
        self._records = records
        self._faults = faults
        self._journal = journal
        self._on_end = on_end
        self._desks: dict[int, _Desk] = {}

    def begin(self, batch: Batch) -> None:
        """Plans the first dial of a batch that has just been uploaded."""
        self._timeline.call_at(batch.created_at + _PREPARATION_SECONDS, self._open, batch)

    def recall(self, attempt: Attempt) -> Call:
        """How an attempt goes or went."""
        batch = attempt.batch
        script = self._options.script
        return draw_call(
            self._seed,
            batch.ordinal,
            attempt.row,
            attempt.number,
            completed_share=self._options.completed_share,
            script=script.get(batch.contacts.read(attempt.row)[0], ()) if script else (),
        )

    def _open(self, when: float, batch: Batch) -> None:
        desk = self._desks.setdefault(batch.agent_id, _Desk(self._options.lines))
        desk.batches.append(batch)
        self._fill_lines(when, desk)

    def _fill_lines(self, when: float, desk: _Desk) -> None:
        for _ in range(_DIALS_PER_STEP):
            job = desk.take_next() if desk.free else None
            if job is None:
                return
            self._dial(when, desk, *job)
        self._timeline.call_at(when, self._fill_lines, desk)

    def _dial(self, when: float, desk: _Desk, batch: Batch, row: int, number: int) -> None:
        desk.free -= 1
        if not self._journal.dials:
            self._faults.note_first_dial(when)
        self._journal.dials += 1
        if number > 1:
            batch.pending_retry -= 1
        uuid = derive_uuid(self._seed, "conversation", batch.ordinal, row)
        attempt = Attempt(batch, row, number, self._records.name_conversation(uuid, number), when)
        self._records.open_conversation(attempt)
        call = self.recall(attempt)
        length = call.seconds_before + (call.duration_seconds or 0)
        self._timeline.call_at(when + length, self._end, desk, attempt, call)

    def _end(self, when: float, desk: _Desk, attempt: Attempt, call: Call) -> None:
        attempt.status = call.status
        attempt.closed_at = when
        attempt.duration_seconds = call.duration_seconds
        if call.is_connected:
            attempt.started_at = attempt.dialled_at + call.seconds_before
            attempt.ended_at = when
        else:
            # Never connected: there is only the moment of dialling.
            attempt.started_at = attempt.dialled_at
        self._settle(when, attempt, call, desk)
        self._records.close_conversation(attempt)
        self._journal.events += 1
        self._on_end(attempt, call)
        attempt.batch.note_progress()
        desk.free += 1
        self._fill_lines(when, desk)

    def _settle(self, when: float, attempt: Attempt, call: Call, desk: _Desk) -> None:
        batch = attempt.batch
        if call.status == "completed":
            batch.talk_seconds += call.duration_seconds or 0
        elif attempt.number < self._options.max_attempts:
            attempt.next_retry_at = round(when + self._options.retry_seconds * call.retry_factor, 3)
            batch.pending_retry += 1
            self._timeline.call_at(attempt.next_retry_at, self._ready, desk, batch, attempt.row, attempt.number + 1)
            return
        batch.finished[call.status] += 1

    def _ready(self, when: float, desk: _Desk, batch: Batch, row: int, number: int) -> None:
        desk.retries.append((batch, row, number))
        self._fill_lines(when, desk)

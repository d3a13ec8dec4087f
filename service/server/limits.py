"""The server's open connections: their maximum number, which one makes room for a new one, and which are too slow.

One sweep a second checks all of them, so that a request needs no timer: a connection only records what it is doing, and
the sweep records since when. Time limits are therefore exact to one sweep.

When all slots are in use, a new connection takes the slot of the one that has kept the server waiting the longest:
first those that never sent a request, have an unfinished head or a stalled body, then the one that has been idle the
longest. Otherwise a client that opens connections and leaves them alone could lock the provider out. When all are busy,
some reserved slots serve the probes, so that a busy service is not taken for a dead one and restarted.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import structlog

logger = structlog.get_logger()

SWEEPS_PER_LOG_LINE = 10

Slot = Literal["open", "reserved", "full"]
"""What a new connection gets: a slot, one for a probe, or none."""
STAGES = ("silent", "head", "body", "answering", "idle", "rest", "refused", "closing")


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Limits of the server itself, which apply before the application sees a request."""

    connections: int = 2000
    reserve: int = 64
    """Slots beyond ``connections``, each for one answer: to a probe, or that the service is full."""
    head_bytes: int = 64 * 1024
    """Of the URL and the headers together."""
    headers: int = 100
    pipelined: int = 8
    """Requests that may wait for the answer to the one before."""
    head_seconds: float = 10.0
    """From the connection, or the first byte of a further request, until the headers are complete."""
    idle_seconds: float = 75.0
    """Between two requests."""
    stalled_seconds: float = 10.0
    """Without any byte of a body."""
    body_bytes_per_second: float = 1024.0
    """Minimum average rate of a body that has taken ``rate_grace_seconds``."""
    answer_bytes_per_second: float = 1024.0
    """Minimum average rate at which a client reads an answer, likewise."""
    rate_grace_seconds: float = 30.0
    untaken_bytes: int = 256 * 2**20
    """Maximum of ready answers that all clients together may leave unread."""
    linger_seconds: float = 10.0
    """How long input after an answer is discarded, so that the client gets to read the answer."""
    linger_bytes: int = 128 * 2**20
    """Maximum of that input."""
    sweep_seconds: float = 1.0
    clock: Callable[[], float] = time.monotonic


DEFAULT_CONNECTION_LIMITS = ConnectionLimits()


class Activity(NamedTuple):
    """What a connection is doing, and for which of its requests."""

    stage: str
    """One of ``STAGES``. ``silent``: never sent a request; ``head``, ``body``: receiving that part of a request;
    ``answering``: it is the service's turn; ``idle``: between two requests; ``rest``: answered, but its body still
    arrives; ``refused``: its input is discarded; ``closing``: only reads the rest of its answer."""
    request: int


class Watched(Protocol):
    """What the keeper needs from a connection."""

    transport: asyncio.Transport
    notes: "Notes"
    body_bytes: int
    """Received of the present request."""
    stops: int
    """How often writing was paused because its client read too slowly."""

    @property
    def is_read_paused(self) -> bool:
        """The service makes the client wait."""

    @property
    def is_write_paused(self) -> bool:
        """The client has not read enough of an answer to continue writing."""

    def activity(self) -> Activity:
        """What it is doing."""

    def cut_off(self, reason: str, message: str | None) -> None:
        """Counts the reason, answers 503 if there is a message and an answer is possible, and closes the connection."""


@dataclass(slots=True)
class Notes:
    """What the sweeps have seen of a connection."""

    activity: Activity | None = None
    since: float = 0.0
    body_bytes: int = 0
    moved_at: float = 0.0
    reading_seconds: float = 0.0
    stops: int = -1
    stopped_at: float = 0.0
    untaken_bytes: int = 0


def _check(limits: ConnectionLimits, connection: Watched, now: float, elapsed: float) -> None:
    """Notes what a connection is doing, and cuts it off if that takes too long. ``elapsed``: since the last sweep."""
    activity, notes = connection.activity(), connection.notes
    if activity != notes.activity:
        notes.activity, notes.since, notes.moved_at = activity, now, now
        notes.body_bytes, notes.reading_seconds = connection.body_bytes, 0.0
    waited = now - notes.since
    match activity.stage:
        case "silent" if waited >= limits.head_seconds:
            connection.cut_off("silent", None)
        case "head" if waited >= limits.head_seconds and not connection.is_read_paused:
            connection.cut_off("slow_head", f"The headers did not arrive within {limits.head_seconds:g} s")
        case "idle" if waited >= limits.idle_seconds:
            connection.transport.close()
        case "rest" if waited >= limits.linger_seconds:
            connection.cut_off("unread_body", None)
        case "refused" if waited >= limits.linger_seconds:
            connection.transport.close()
        case "body":
            _check_body(limits, connection, now, elapsed)


def _check_body(limits: ConnectionLimits, connection: Watched, now: float, elapsed: float) -> None:
    notes = connection.notes
    if connection.is_read_paused or connection.body_bytes != notes.body_bytes:
        notes.moved_at, notes.body_bytes = now, connection.body_bytes
    if connection.is_read_paused:  # the service has to continue
        return
    notes.reading_seconds += min(elapsed, now - notes.since)
    seconds = notes.reading_seconds
    if now - notes.moved_at >= limits.stalled_seconds:
        connection.cut_off("slow_body", f"Nothing of the body arrived for {limits.stalled_seconds:g} s")
    elif seconds >= limits.rate_grace_seconds and notes.body_bytes < limits.body_bytes_per_second * seconds:
        rate = limits.body_bytes_per_second
        connection.cut_off("slow_body", f"The body arrived at less than {rate:g} bytes per second")


def _takes_too_little(limits: ConnectionLimits, connection: Watched, now: float, size: int) -> bool:
    """Whether a client reads its answer, of which ``size`` bytes are left, too slowly. Nothing is added to a transport
    that is full or closing, so a decrease since writing stopped is what the client has read."""
    notes = connection.notes
    if notes.stops != connection.stops:
        notes.stops, notes.stopped_at, notes.untaken_bytes = connection.stops, now, size
    seconds, taken = now - notes.stopped_at, notes.untaken_bytes - size
    is_long = size > 0 and seconds >= 2 * limits.rate_grace_seconds
    return is_long and taken < limits.answer_bytes_per_second * seconds


class ConnectionKeeper:
    """Admits connections, sweeps them, and counts those that were refused or cut off in ``cut``, by reason."""

    def __init__(
        self,
        limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS,
        cut: MutableMapping[tuple[str, ...], int] | None = None,
    ) -> None:
        self.limits = limits
        self._cut = Counter() if cut is None else cut
        self._logged: Counter[tuple[str, ...]] = Counter()
        self._open: set[Watched] = set()
        self._reserved: set[Watched] = set()
        self._victims: dict[str, list[tuple[Watched, Activity]]] = {}
        self._swept_at = limits.clock()

    def list_open(self) -> list[Watched]:
        """The connections that are open now."""
        return [*self._open, *self._reserved]

    def count_stages(self) -> dict[str, int]:
        """How many connections are at each stage now."""
        counts = dict.fromkeys(STAGES, 0)
        for connection in self.list_open():
            counts[connection.activity().stage] += 1
        return counts

    def count_cut(self, reason: str) -> None:
        """Counts a connection that was refused or cut off."""
        self._cut[(reason,)] += 1

    def admit(self, connection: Watched) -> Slot:
        """The slot of a new connection, if necessary that of one that waits for its client."""
        slots: tuple[tuple[Slot, set[Watched], int], ...] = (
            ("open", self._open, self.limits.connections),
            ("reserved", self._reserved, self.limits.reserve),
        )
        for slot, taken, maximum in slots:
            if len(taken) < maximum or self._make_room(slot, taken):
                taken.add(connection)
                return slot
        self.count_cut("full")
        return "full"

    def leave(self, connection: Watched) -> None:
        """Forgets a connection that has ended."""
        self._open.discard(connection)
        self._reserved.discard(connection)

    async def run(self) -> None:
        """Sweeps for as long as the server runs."""
        sweeps = 0
        while True:
            await asyncio.sleep(self.limits.sweep_seconds)
            try:
                self.sweep()
            except Exception:
                logger.error("sweep_failed", exc_info=True)
            sweeps += 1
            if sweeps % SWEEPS_PER_LOG_LINE == 0:
                self.log_cuts()

    def sweep(self) -> None:
        """Cuts off connections that have kept the server waiting for too long."""
        now = self.limits.clock()
        elapsed, self._swept_at = now - self._swept_at, now
        self._victims.clear()
        owing: list[tuple[int, Watched]] = []
        for connection in self.list_open():
            _check(self.limits, connection, now, elapsed)
            if connection.is_write_paused or connection.transport.is_closing():
                size = connection.transport.get_write_buffer_size()
                if _takes_too_little(self.limits, connection, now, size):
                    self._abort(connection)
                else:
                    owing.append((size, connection))
            else:
                connection.notes.stops = -1
        self._limit_untaken(owing)

    def _limit_untaken(self, owing: list[tuple[int, Watched]]) -> None:
        """Aborts those with the most unread bytes, which cost memory, until the total is within its limit."""
        total = sum(size for size, _ in owing)
        if total <= self.limits.untaken_bytes:
            return
        for size, connection in sorted(owing, key=lambda pair: pair[0], reverse=True):
            self._abort(connection)
            total -= size
            if total <= self.limits.untaken_bytes:
                return

    def _abort(self, connection: Watched) -> None:
        if connection in self._open or connection in self._reserved:
            self.count_cut("untaken")
            self.leave(connection)
            connection.transport.abort()

    def _make_room(self, slot: Slot, taken: set[Watched]) -> bool:
        """Closes the connection that has kept the server waiting the longest, if there is one. They are listed at most
        once between two sweeps, so that a flood of new connections does not list them each time."""
        if slot not in self._victims:
            self._victims[slot] = self._list_victims(taken)
        victims = self._victims[slot]
        while victims:
            victim, activity = victims.pop()
            if victim in taken and victim.activity() == activity and not victim.transport.get_write_buffer_size():
                self.leave(victim)
                victim.cut_off("made_room", "A slow request had to make room: send it again")
                victim.transport.close()
                return True
        return False

    def _list_victims(self, taken: set[Watched]) -> list[tuple[Watched, Activity]]:
        """Those that wait for their client, and did so at the last sweep already; the last is the first to close."""
        found: list[tuple[bool, float, int, Watched, Activity]] = []
        for number, connection in enumerate(taken):
            notes, activity = connection.notes, connection.activity()
            stands_still = activity.stage != "body" or (
                connection.body_bytes == notes.body_bytes and notes.moved_at < self._swept_at
            )
            is_busy = activity.stage in {"answering", "closing"} or connection.is_read_paused
            if is_busy or activity != notes.activity or not stands_still:
                continue
            found.append((activity.stage == "idle", notes.since, number, connection, activity))
        found.sort(reverse=True)
        return [(connection, activity) for _, _, _, connection, activity in found]

    def log_cuts(self) -> None:
        """Logs one line for each reason, so that a flood of bad requests does not flood the log."""
        for reason, count in list(self._cut.items()):
            if count > self._logged[reason]:
                logger.warning("connections_cut", reason=reason[0], count=count - self._logged[reason])
                self._logged[reason] = count

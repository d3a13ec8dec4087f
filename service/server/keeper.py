"""The open connections of the server: how many there may be, who goes when there is no room, and which of them have
kept it waiting for too long.

One sweep a second looks at all of them, so that a request costs no timer: a connection only notes what it is doing, and
the sweep since when it has been doing it. So every limit of time is kept to within a sweep.

When all places are taken, a newcomer gets that of the connection that has kept us waiting the longest: one that has
never sent a request, an unfinished head, a body that stands still, and then the one that has been idle for the longest.
Otherwise whoever opens connections and leaves them alone could lock the provider out. While every one is at work, a few
places more are kept for the probes: a service that is only busy must not be taken for a dead one and be restarted.
"""

import asyncio
from collections import Counter
from collections.abc import MutableMapping

import structlog

from service.server.limits import DEFAULT_CONNECTION_LIMITS, STAGES, ConnectionLimits, Doing, Place, Watched
from service.server.patience import look_at, takes_too_little

logger = structlog.get_logger()

SWEEPS_PER_WORD = 10


class ConnectionKeeper:
    """Lets connections in, sweeps them, and counts those that were refused or cut off in ``cut``, by reason."""

    def __init__(
        self,
        limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS,
        cut: MutableMapping[tuple[str, ...], int] | None = None,
    ) -> None:
        self.limits = limits
        self._cut = Counter() if cut is None else cut
        self._told: Counter[tuple[str, ...]] = Counter()
        self._open: set[Watched] = set()
        self._reserved: set[Watched] = set()
        self._victims: dict[str, list[tuple[Watched, Doing]]] = {}
        self._swept_at = limits.clock()

    def list_open(self) -> list[Watched]:
        """The connections that are open now."""
        return [*self._open, *self._reserved]

    def count_stages(self) -> dict[str, int]:
        """How many connections are at each stage now."""
        counts = dict.fromkeys(STAGES, 0)
        for connection in self.list_open():
            counts[connection.tell_doing().stage] += 1
        return counts

    def count_cut(self, reason: str) -> None:
        """Counts a connection that was refused or cut off."""
        self._cut[(reason,)] += 1

    def admit(self, connection: Watched) -> Place:
        """The place that it gets, if need be that of one that waits for its client."""
        places: tuple[tuple[Place, set[Watched], int], ...] = (
            ("open", self._open, self.limits.connections),
            ("reserved", self._reserved, self.limits.reserve),
        )
        for place, taken, most in places:
            if len(taken) < most or self._make_room(place, taken):
                taken.add(connection)
                return place
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
            if sweeps % SWEEPS_PER_WORD == 0:
                self.tell()

    def sweep(self) -> None:
        """Cuts off whoever has kept us waiting for too long."""
        now = self.limits.clock()
        elapsed, self._swept_at = now - self._swept_at, now
        self._victims.clear()
        owing: list[tuple[int, Watched]] = []
        for connection in self.list_open():
            look_at(self.limits, connection, now, elapsed)
            if connection.is_write_paused or connection.transport.is_closing():
                size = connection.transport.get_write_buffer_size()
                if takes_too_little(self.limits, connection, now, size):
                    self._abort(connection)
                else:
                    owing.append((size, connection))
            else:
                connection.notes.stops = -1
        self._bound_untaken(owing)

    def _bound_untaken(self, owing: list[tuple[int, Watched]]) -> None:
        """A client that reads slowly costs memory: those that leave most of it untaken are broken off first."""
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

    def _make_room(self, place: Place, taken: set[Watched]) -> bool:
        """Closes the connection that has kept us waiting the longest, if there is one. They are listed once between
        two sweeps at most, so that a flood of connections is not looked through for each of them."""
        if place not in self._victims:
            self._victims[place] = self._list_victims(taken)
        victims = self._victims[place]
        while victims:
            victim, doing = victims.pop()
            if victim in taken and victim.tell_doing() == doing and not victim.transport.get_write_buffer_size():
                self.leave(victim)
                victim.cut_off("made_room", "There was no place left for a slow request: send it again")
                victim.transport.close()
                return True
        return False

    def _list_victims(self, taken: set[Watched]) -> list[tuple[Watched, Doing]]:
        """Who waits for its client, and did so at the last sweep already; the last is the first to go."""
        found: list[tuple[bool, float, int, Watched, Doing]] = []
        for number, connection in enumerate(taken):
            notes, doing = connection.notes, connection.tell_doing()
            stands_still = doing.stage != "body" or (
                connection.body_bytes == notes.body_bytes and notes.moved_at < self._swept_at
            )
            is_busy = doing.stage in {"answering", "closing"} or connection.is_read_paused
            if is_busy or doing != notes.doing or not stands_still:
                continue
            found.append((doing.stage == "idle", notes.since, number, connection, doing))
        found.sort(reverse=True)
        return [(connection, doing) for _, _, _, connection, doing in found]

    def tell(self) -> None:
        """One line for each reason, however many there were: a flood of bad requests is no flood of log lines."""
        for reason, count in list(self._cut.items()):
            if count > self._told[reason]:
                logger.warning("connections_cut", reason=reason[0], count=count - self._told[reason])
                self._told[reason] = count

"""Slows guessing: each address, and all of them together, may try only so often."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

MAX_ADDRESSES = 10_000


class Rate(NamedTuple):
    """``burst`` tries at once, then one every ``seconds``."""

    burst: int
    seconds: float


EACH = Rate(10, 30.0)
TOGETHER = Rate(100, 1.0)


class Throttle:
    """Counts tries by the generic cell rate algorithm: one time for each address. The addresses that have waited
    longest are forgotten first, and the rate of all together holds whatever is forgotten."""

    def __init__(
        self, each: Rate = EACH, together: Rate = TOGETHER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._each = each
        self._together = together
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()
        self._all_free_at = float("-inf")

    def find_wait(self, address: str) -> int:
        """The seconds until the address may try again; 0: now."""
        now = self._clock()
        each = self._free_at.get(address, float("-inf")) - now - self._each.seconds * (self._each.burst - 1)
        together = self._all_free_at - now - self._together.seconds * (self._together.burst - 1)
        return math.ceil(max(each, together, 0.0))

    def note_failure(self, address: str) -> None:
        """Counts a try that failed."""
        now = self._clock()
        self._all_free_at = max(self._all_free_at, now) + self._together.seconds
        self._free_at[address] = max(self._free_at.get(address, now), now) + self._each.seconds
        self._free_at.move_to_end(address)
        while len(self._free_at) > MAX_ADDRESSES:
            self._free_at.popitem(last=False)

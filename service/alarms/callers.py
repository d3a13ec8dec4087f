"""Caller numbers that connect far less often than the company's others: they may have been marked as spam.

``find_weak_callers`` compares each number with the agent's other numbers in the same batches, so that a number which
only got the worse list is not blamed. It is the Cochran-Mantel-Haenszel test, which for one batch is the test of two
proportions: over the batches it sums the connects that the number has beyond those that it would have by chance, and
divides by their standard deviation.

A number is weak if all of this holds:

- It made at least ``MIN_ATTEMPTS`` attempts.
- It connects at most ``WEAK_RATIO`` as often as the others.
- If all numbers were equal, the test would show so large a difference for any of the agent's numbers with a probability
  of at most ``FALSE_ALARMS`` at each look (one-sided, Bonferroni's correction for the number of numbers).

The test is looked at again and again while calls are made, so it could cry wolf more often than that; the ratio keeps
it from doing so. ``tests/alarms/test_callers.py`` plays it: with ten equal numbers, looked at after every 200 of 20,000
calls, fewer than one history in a hundred has a false alarm.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import msgspec

from service.store.database import Database

MIN_ATTEMPTS = 200
WEAK_RATIO = 0.7
FALSE_ALARMS = 0.001
PERIOD = timedelta(days=7)
"""Batches created in this period are looked at."""
MAX_BATCHES = 1000
MAX_NUMBERS = 50
"""Per batch: those with most attempts."""


class CallerCount(NamedTuple):
    """The attempts from one number in one batch."""

    agent_id: int
    batch_id: int
    from_phone: str
    attempts: int
    connects: int


class WeakCaller(msgspec.Struct):
    """A number whose calls connect far less often than those from the agent's other numbers in the same batches."""

    agent_id: int
    from_phone: str
    attempts: int
    connects: int
    expected_connects: int
    """What the others' connect rates give for so many attempts."""
    batches: list[int]


class _Sums:
    """The sums of one number over its batches."""

    def __init__(self) -> None:
        self.attempts = self.connects = 0
        self.by_chance = self.variance = self.by_others = 0.0
        self.batches: list[int] = []

    def add(self, count: CallerCount, all_attempts: int, all_connects: int) -> None:
        """Adds a batch in which other numbers called, too."""
        others = all_attempts - count.attempts
        self.attempts += count.attempts
        self.connects += count.connects
        self.by_others += count.attempts * (all_connects - count.connects) / others
        self.by_chance += count.attempts * all_connects / all_attempts
        self.variance += (
            count.attempts * others * all_connects * (all_attempts - all_connects)
            / (all_attempts**2 * (all_attempts - 1))
        )  # fmt: skip
        self.batches.append(count.batch_id)

    def find_deviation(self) -> float:
        """By how many standard deviations the number has fewer connects than by chance."""
        return (self.by_chance - self.connects) / sqrt(self.variance) if self.variance > 0 else 0.0


def find_weak_callers(counts: Iterable[CallerCount]) -> list[WeakCaller]:
    """The weak numbers of all agents, as defined above. ``counts`` has a row for each batch and number."""
    batches: defaultdict[tuple[int, int], list[CallerCount]] = defaultdict(list)
    for count in counts:
        batches[count.agent_id, count.batch_id].append(count)
    agents: defaultdict[int, defaultdict[str, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
    for (agent_id, _), rows in batches.items():
        attempts, connects = sum(row.attempts for row in rows), sum(row.connects for row in rows)
        for row in rows:
            if 0 < row.attempts < attempts:
                agents[agent_id][row.from_phone].add(row, attempts, connects)
    return [
        WeakCaller(agent_id, number, sums.attempts, sums.connects, round(sums.by_others), sums.batches)
        for agent_id, numbers in sorted(agents.items())
        for number, sums in sorted(numbers.items())
        if sums.attempts >= MIN_ATTEMPTS
        and sums.connects <= WEAK_RATIO * sums.by_others
        and sums.find_deviation() > NormalDist().inv_cdf(1 - FALSE_ALARMS / len(numbers))
    ]


async def read_weak_callers(database: Database) -> list[WeakCaller]:
    """The weak numbers in the batches of the last days."""
    rows = database.queries.list_caller_counts(database.pool, period=PERIOD, batches=MAX_BATCHES, numbers=MAX_NUMBERS)
    return find_weak_callers([CallerCount(**row) async for row in rows])

"""Events that may wait in the spill stream, as readers see them: the reason ``spilled`` of a verdict."""

from datetime import datetime

import msgspec

from service.outcomes.shapes import Reason, explain
from service.store.database import Database

FINAL = ("complete", "drifted")
"""The verdicts that waiting events make ``settling``, as ``shown_verdict()`` does."""


class Spilled(msgspec.Struct):
    """A row of ``find_spilled()``: how many were seen, since when, and why the stream is not known to be empty."""

    events: int
    since: datetime | None
    cause: str

    def describe(self) -> Reason:
        """The reason, in words too."""
        return explain([Reason("spilled", count=self.events, since=self.since, cause=self.cause)])[0]


def add_spilled(reasons: list[Reason], verdict: str, spilled: Spilled | None) -> list[Reason]:
    """The reasons of a verdict as readers see it: one that is ``settling`` says first what may wait."""
    return reasons if spilled is None or verdict != "settling" else [spilled.describe(), *reasons]


async def find_spilled(database: Database) -> Spilled | None:
    """What may wait now; None when the stream is known to be empty, or never was one."""
    row = await database.queries.find_spilled(database.pool)
    return None if row is None else Spilled(**row)

"""Reasons why records were refused: the same reason of many records is one, however each of them is named in it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_REASONS = 50
OTHERS = "other reasons"
EXAMPLES = 3

_ID = re.compile(r"[\w.+-]+@[\w.-]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d{4,}", re.IGNORECASE)


def generalize(reason: str, own: Iterable[str]) -> str:
    """The reason without what is the record's own: its key and parameters (``own``), addresses, ids, long numbers."""
    for value in sorted(own, key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "…", reason, flags=re.IGNORECASE)
    return _ID.sub("…", reason)


@dataclass
class Group:
    """How many failed for one reason, and who the first of them were: batch and number, such as 456-7."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Reasons:
    """Failures by reason; bounded, however many reasons there are."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}

    def add(self, reason: str, example: str) -> None:
        """Counts one failure."""
        if reason not in self._groups and len(self._groups) >= MAX_REASONS:
            reason = OTHERS
        group = self._groups.setdefault(reason, Group())
        group.count += 1
        if len(group.examples) < EXAMPLES:
            group.examples.append(example)

    def rank(self) -> list[tuple[str, Group]]:
        """The reasons, the most frequent first."""
        return sorted(self._groups.items(), key=lambda item: -item[1].count)


class Streak:
    """Stops at ``limit`` refusals in a row for one reason: then it is not the records that are wrong. 0: never."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reason = ""
        self.length = 0

    def note_taken(self) -> None:
        """A record was taken."""
        self.length = 0

    def note_refused(self, reason: str) -> bool:
        """A record was refused. True at the limit."""
        self.length = self.length + 1 if reason == self._reason else 1
        self._reason = reason
        return 0 < self._limit <= self.length

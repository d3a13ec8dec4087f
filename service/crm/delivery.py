"""Delivery: a record counts as sent only when the CRM confirms it.

Records are sent in batches. Those that an answer neither confirms nor refuses are sent again in halves, and so is a
batch that is refused as a whole, until every record is confirmed or refused with a reason.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from service.crm.exchange import RefusedError, SyncError, repeat
from service.crm.records import Failure, Record
from service.crm.targets import CrmTarget, Reply

UNCONFIRMED = "the CRM's answer does not confirm this record"
OTHERS = "other reasons"
MAX_REASONS, MAX_EXAMPLES = 50, 3
_ID = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w.-]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d{4,}", re.IGNORECASE)


class Delivery:
    """Sends records to a target, and counts those that it confirmed (``taken``).

    ``is_patient``: outages are waited out. ``give_up_after``: the number of refusals in a row for one reason that stops
    the delivery; 0: never.
    """

    def __init__(self, target: CrmTarget, *, is_patient: bool, give_up_after: int) -> None:
        self.taken = 0
        self._target = target
        self._is_patient = is_patient
        self._give_up_after = give_up_after
        self._streak, self._streak_reason = 0, ""

    async def deliver(self, records: Sequence[Record]) -> list[Failure]:
        """Sends records of different keys; returns the refused ones once all others are in the CRM.

        Raises SyncError when the target accepts none, cannot be reached, or refuses one record after the other.
        """
        size = self._target.batch_size
        failures: list[Failure] = []
        for start in range(0, len(records), size):
            failures += await self._send(records[start : start + size])
        return failures

    async def _send(self, records: Sequence[Record]) -> list[Failure]:
        try:
            reply = await repeat(lambda: self._target.send(records), "crm", is_patient=self._is_patient)
        except RefusedError as error:
            if len(records) > 1:
                return await self._send_halves(records)
            reply = Reply(refused={records[0].key: str(error)})
        refused = dict(reply.refused)
        taken = reply.taken - refused.keys()
        silent = [record for record in records if record.key not in taken and record.key not in refused]
        if len(records) == 1 and silent:
            refused, silent = {records[0].key: UNCONFIRMED}, []
        self.taken += sum(record.key in taken for record in records)
        failures = self._note(records, taken, refused)
        return failures + (await self._send_halves(silent) if silent else [])

    async def _send_halves(self, records: Sequence[Record]) -> list[Failure]:
        middle = (len(records) + 1) // 2
        halves = (records[:middle], records[middle:])
        return [failure for half in halves if half for failure in await self._send(half)]

    def _note(self, records: Sequence[Record], taken: frozenset[str], refused: dict[str, str]) -> list[Failure]:
        failures = []
        for record in records:
            if record.key in taken:
                self._streak = 0
            elif record.key in refused:
                reason = refused[record.key]
                summary = generalize(reason, {record.key, *record.own})
                failures.append(
                    Failure(record.key, record.position, record.batch_id, record.recipient, reason, summary)
                )
                self._streak = self._streak + 1 if summary == self._streak_reason else 1
                self._streak_reason = summary
                if 0 < self._give_up_after <= self._streak:  # then the records are not at fault
                    raise SyncError(
                        f"The CRM has refused {self._streak} records in a row for one reason: {summary}. "
                        "They were not acknowledged. Repair the mapping file or the CRM and run it again; "
                        "--give-up-after 0 continues anyway"
                    )
        return failures


def generalize(reason: str, own: Iterable[str]) -> str:
    """The reason without the record's own data: its key and parameters (``own``), addresses, ids, long numbers.

    So the same reason of many records is counted as one.
    """
    for value in sorted(own, key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "…", reason, flags=re.IGNORECASE)
    return _ID.sub("…", reason)


@dataclass
class FailureGroup:
    """The number of failures for one reason, and the first of them as batch and number, such as 456-7."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Reasons:
    """Failures by reason, with a bounded number of reasons."""

    def __init__(self) -> None:
        self._groups: dict[str, FailureGroup] = {}

    def add(self, reason: str, example: str) -> None:
        if reason not in self._groups and len(self._groups) >= MAX_REASONS:
            reason = OTHERS
        group = self._groups.setdefault(reason, FailureGroup())
        group.count += 1
        if len(group.examples) < MAX_EXAMPLES:
            group.examples.append(example)

    def rank(self) -> list[tuple[str, FailureGroup]]:
        """The reasons, the most frequent first."""
        return sorted(self._groups.items(), key=lambda item: -item[1].count)

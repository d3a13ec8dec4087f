"""Delivery: records go out in batches, and a batch that is refused as a whole is halved until the bad records stand
alone. Their neighbours are taken, and no record is given up without a reason.
"""

from collections.abc import Sequence

from service.crm.errors import RefusedError, SyncError
from service.crm.exchange import repeat
from service.crm.records import Failure, Record
from service.crm.targets import Target


class Delivery:
    """Sends records to a target. ``is_patient``: an outage of it is waited out, however long it is.

    ``give_up_after``: so many refusals, before any record was ever taken, mean that the mapping is wrong rather than
    the records; 0: go on all the same.
    """

    def __init__(self, target: Target, *, is_patient: bool, give_up_after: int) -> None:
        self._target = target
        self._is_patient = is_patient
        self._give_up_after = give_up_after
        self._has_taken = False
        self._refusals = 0

    async def deliver(self, records: Sequence[Record]) -> list[Failure]:
        """Sends records of different keys; returns those that were not taken once all others are in the CRM.

        Raises SyncError when the target takes none, or cannot be reached.
        """
        size = self._target.batch_size
        failures: list[Failure] = []
        for start in range(0, len(records), size):
            failures += await self._send(records[start : start + size])
        return failures

    async def _send(self, records: Sequence[Record]) -> list[Failure]:
        try:
            reasons = await repeat(lambda: self._target.send(records), "crm", is_patient=self._is_patient)
        except RefusedError as error:
            if len(records) > 1:
                middle = len(records) // 2
                return await self._send(records[:middle]) + await self._send(records[middle:])
            reasons = {records[0].key: error.reason}
        self._has_taken = self._has_taken or len(reasons) < len(records)
        failures = [_to_failure(record, reasons[record.key]) for record in records if record.key in reasons]
        self._count(failures)
        return failures

    def _count(self, failures: Sequence[Failure]) -> None:
        self._refusals += len(failures)
        if failures and not self._has_taken and 0 < self._give_up_after <= self._refusals:
            raise SyncError(
                f"The CRM has refused each of the first {self._refusals} records, so nothing was acknowledged: "
                f"{failures[-1].reason}. Check the mapping file; --give-up-after 0 goes on all the same"
            )


def _to_failure(record: Record, reason: str) -> Failure:
    return Failure(record.key, record.position, record.batch_id, record.recipient, reason)

"""Repair of phones that older versions stored as the provider wrote them: recipients made on the fly, waiting events.

It goes through all of them in small committed steps, which any replica goes on with, and then once more a day later:
a replica of the version before may have run beside the first pass. Then nothing is left to do, for ever.
"""

from typing import Any, NamedTuple

import structlog

from service.background import every
from service.formant.regions import Regions
from service.phones.canonical import canonical_phone
from service.store.database import Database
from service.uploads.registration import Registrar

logger = structlog.get_logger()

STEP_ROWS = 1000


class _Repaired(NamedTuple):
    row: Any
    phone: str


class PhoneRepair:
    """Repairs. ``registrar`` then places what waits; None leaves that to the running service."""

    def __init__(
        self,
        database: Database,
        regions: Regions,
        registrar: Registrar | None = None,
        *,
        interval_seconds: float = 60.0,
    ) -> None:
        self._database = database
        self._regions = regions
        self._registrar = registrar
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Until it is cancelled."""
        await every(self._interval_seconds, self.finish, "maintenance_failed")

    async def finish(self) -> int:
        """Takes all steps that are due; how many phones were repaired."""
        count = 0
        while (repaired := await self.take_step()) is not None:
            count += repaired
        if count:
            logger.info("phones_repaired", count=count)
            if self._registrar is not None:
                await self._registrar.finish_all()
        return count

    async def take_step(self) -> int | None:
        """Takes the next step; how many phones it repaired, or None when none is due."""
        queries, pool = self._database.queries, self._database.pool
        await queries.begin_phone_repair(pool)
        work = await queries.get_phone_repair(pool)
        if work is None:
            return None
        return await (self._repair_recipients(work) if work["step"] == "recipients" else self._repair_waiting(work))

    async def _repair_recipients(self, work: Any) -> int:
        queries, pool = self._database.queries, self._database.pool
        rows = queries.read_made_recipients(pool, batch_key=work["batch_key"], after=work["cursor"], rows=STEP_ROWS)
        page = [row async for row in rows]
        repaired = self._read(page)
        is_ours = await queries.repair_recipients(
            pool,
            after_batch=work["batch_key"],
            after=work["cursor"],
            batch_key=page[-1]["batch_key"] if page else None,
            cursor=page[-1]["recipient_no"] if page else None,
            batch_keys=[found.row["batch_key"] for found in repaired],
            recipient_nos=[found.row["recipient_no"] for found in repaired],
            said=[found.row["phone"] for found in repaired],
            phones=[found.phone for found in repaired],
        )
        return len(repaired) if is_ours else 0

    async def _repair_waiting(self, work: Any) -> int:
        queries, pool = self._database.queries, self._database.pool
        page = [row async for row in queries.read_waiting_phones(pool, after=work["cursor"], rows=STEP_ROWS)]
        repaired = self._read(page)
        is_ours = await queries.repair_waiting(
            pool,
            after=work["cursor"],
            cursor=page[-1]["arrival_id"] if page else None,
            arrival_ids=[found.row["arrival_id"] for found in repaired],
            said=[found.row["phone"] for found in repaired],
            phones=[found.phone for found in repaired],
        )
        return len(repaired) if is_ours else 0

    def _read(self, page: list[Any]) -> list[_Repaired]:
        """The rows whose phone is stored otherwise than it is compared."""
        found = [(row, canonical_phone(row["phone"], self._regions.find(row["agent_id"]))) for row in page]
        return [_Repaired(row, phone) for row, phone in found if phone is not None and phone != row["phone"]]

"""Repair of phones that older versions stored as the provider wrote them: recipients made on the fly, waiting events.

It reads all of them in small committed steps, which any replica can continue, and again a day later, because a replica
of the previous version may still have run during the first pass. After that it is finished for good.
"""

from typing import Any

import structlog

from service.background import every
from service.formant.regions import Regions
from service.phones.canonical import canonical_phone
from service.store.database import Database
from service.uploads.registration import Registrar

logger = structlog.get_logger()

STEP_ROWS = 1000
INTERVAL_SECONDS = 60.0


class PhoneRepair:
    """Repairs phones. ``registrar`` then places the waiting events; None leaves that to the running service."""

    def __init__(self, database: Database, regions: Regions, registrar: Registrar | None = None) -> None:
        self._database = database
        self._regions = regions
        self._registrar = registrar

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.finish, "maintenance_failed")

    async def finish(self) -> int:
        """Takes all steps that are due. Returns the number of repaired phones."""
        count = 0
        while (repaired := await self.take_step()) is not None:
            count += repaired
        if count:
            logger.info("phones_repaired", count=count)
            if self._registrar is not None:
                await self._registrar.finish_all()
        return count

    async def take_step(self) -> int | None:
        """Takes the next step. Returns the number of phones it repaired, or None when no step is due."""
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
            batch_keys=[row["batch_key"] for row, _ in repaired],
            recipient_nos=[row["recipient_no"] for row, _ in repaired],
            said=[row["phone"] for row, _ in repaired],
            phones=[phone for _, phone in repaired],
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
            arrival_ids=[row["arrival_id"] for row, _ in repaired],
            said=[row["phone"] for row, _ in repaired],
            phones=[phone for _, phone in repaired],
        )
        return len(repaired) if is_ours else 0

    def _read(self, page: list[Any]) -> list[tuple[Any, str]]:
        """The rows whose stored phone is not canonical, each with the canonical one."""
        found = [(row, canonical_phone(row["phone"], self._regions.find(row["agent_id"]))) for row in page]
        return [(row, phone) for row, phone in found if phone is not None and phone != row["phone"]]

"""Runs of ``outcomes verify`` over all batches, each of which is recorded once it is verified.

A usual run verifies the batches that have changed since, and a sample of everything else: what it costs depends on what
has happened since the last run, not on what is stored. A full run verifies everything. Either can be stopped at any
time, even by kill -9: batches that were verified stay so, and a full run that was stopped is continued by the next one.
A batch with a difference is not recorded, so each run reports it until it is repaired.
"""

import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from service.store.database import Database
from service.webhooks.verification import PAGE_FACTS, PAGE_PHONES, Discrepancy, Verifier, read_places

SAMPLED_FACTS = 1000


class VerificationRun:
    """One run. ``batches`` are the keys of those verified so far."""

    def __init__(self, database: Database, verifier: Verifier, *, is_full: bool) -> None:
        self._database = database
        self._verifier = verifier
        self._is_full = is_full
        self.batches: set[int] = set()

    async def verify(self) -> AsyncIterator[Discrepancy]:
        """What is wrong."""
        queries, pool = self._database.queries, self._database.pool
        run_id = await queries.begin_full_verification(pool) if self._is_full else None
        for batch in [row async for row in queries.list_unverified_batches(pool, full_run_id=run_id)]:
            async for finding in self._verify_batch(batch, run_id):
                yield finding
            self.batches.add(batch["batch_key"])
        async for finding in self._verifier.verify_rest() if self._is_full else self._sample():
            yield finding
        if self._is_full:
            await queries.complete_full_verification(pool, run_id=run_id)

    async def _verify_batch(self, batch: Any, run_id: int | None) -> AsyncIterator[Discrepancy]:
        revisions: list[int] = []
        is_right = True
        async for finding in self._verifier.verify_batch(batch, revisions.append):
            is_right = False
            yield finding
        if is_right:
            await self._database.queries.record_verification(
                self._database.pool, batch_key=batch["batch_key"], revision=revisions[-1],
                recipient_count=batch["recipient_count"], full_run_id=run_id,
            )  # fmt: skip

    async def _sample(self) -> AsyncIterator[Discrepancy]:
        """What is wrong in a sample of all facts, and in a stretch of the places and of the bodies outside batches."""
        queries, pool = self._database.queries, self._database.pool
        bounds = await queries.get_sample_bounds(pool)
        facts = queries.sample_facts(pool, last_arrival=bounds["last_arrival"], size=SAMPLED_FACTS)
        # Those of verified batches are known, and counted.
        others = [row async for row in facts if row["batch_key"] not in self.batches]
        for finding in self._verifier.check_facts(others):
            yield finding
        for query, key, last in (
            (queries.list_waiting_bodies, "arrival_id", bounds["last_waiting"]),
            (queries.list_other_bodies, "arrival_id", bounds["last_other"]),
            (queries.list_quarantined_bodies, "quarantine_id", bounds["last_quarantined"]),
        ):
            page = query(pool, after=_choose_start(last, PAGE_FACTS), limit=PAGE_FACTS)
            for finding in self._verifier.check_bodies([row async for row in page], key):
                yield finding
        for finding in read_places(await self._read_places(bounds["last_arrival"])):
            yield finding

    async def _read_places(self, last_arrival: int) -> list[Any]:
        queries, pool = self._database.queries, self._database.pool
        start = _choose_start(last_arrival, PAGE_PHONES)
        key = await queries.find_place_key(pool, after=start) if start else None
        agent_id, phone = (key["agent_id"], key["phone"]) if key is not None else (-(2**63), "")
        places = partial(queries.check_places, pool, batch_key=None)
        return [row async for row in places(agent_id=agent_id, phone=phone, keys=PAGE_PHONES)]


def _choose_start(last: int, size: int) -> int:
    """Where a stretch of ``size`` ids begins, chosen at random; 0 if there are no more ids than that."""
    return secrets.randbelow(max(last - size, 0) + 1)

"""Applies new rules for calls outside batches to the events that came before them.

It reads events without a reference, placed or waiting, from the bodies that are still kept, in the order of their
arrival, and moves those that a rule knows. Each step is bounded, committed and safe to repeat; a killed sweep resumes
where it stopped. It runs when the service starts with rules that have not been applied yet. A rule that is removed
moves nothing back.
"""

import asyncio
import hashlib
from typing import Any

import structlog

from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.events import Event, EventDecoder, Unreadable
from service.formant.kinds import CallKinds
from service.store.database import Database

logger = structlog.get_logger()

PAGE_EVENTS = 200
RETRY_SECONDS = 30.0


class RuleSweep:
    """Applies the rules ``kinds``, which ``decoder`` has too, to earlier events."""

    def __init__(self, database: Database, decoder: EventDecoder, kinds: CallKinds) -> None:
        self._database = database
        self._decoder = decoder
        self._kinds = kinds

    async def run(self) -> None:
        """Sweeps once; after a failure it resumes where it stopped."""
        while self._kinds:
            try:
                moved = await self.sweep()
            except Exception:
                logger.warning("rule_sweep_failed", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if moved:
                logger.info("rule_sweep_finished", count=moved)
            return

    async def sweep(self) -> int:
        """Applies the rules to all earlier events, unless that was done before; returns how many moved."""
        queries, pool = self._database.queries, self._database.pool
        own = [(agent_id, number) for agent_id, rules in self._kinds.agents.items() for number in rules.numbers]
        await queries.clear_own_numbers(pool, agent_ids=[pair[0] for pair in own], numbers=[pair[1] for pair in own])
        digest = hashlib.sha256(self._kinds.describe().encode()).digest()
        progress = await queries.get_rule_sweep(pool, digest=digest)
        if progress is not None and progress["ended_at"] is not None:
            return 0
        after, total, is_over = 0 if progress is None else progress["cursor"], 0, False
        while not is_over:
            rows = [row async for row in queries.list_unreferenced_bodies(pool, after=after, limit=PAGE_EVENTS)]
            found = [
                (row["arrival_id"], event.kind, event.phone)
                for row in rows
                if row["body"] is not None
                and row["target"] not in {None, CONVERSATIONS}
                and not isinstance(event := self._decode(row), Unreadable)
                and event.kind is not None
            ]
            moved = 0
            if found:
                ids, kinds, phones = (list(column) for column in zip(*found, strict=True))
                moved = await queries.reclassify_calls(pool, arrival_ids=ids, kinds=kinds, phones=phones)
            after, is_over = rows[-1]["arrival_id"] if rows else after, len(rows) < PAGE_EVENTS
            await queries.save_rule_sweep(pool, digest=digest, cursor=after, moved=moved, is_over=is_over)
            total += moved
        return total

    def _decode(self, row: Any) -> Event | Unreadable:
        return self._decoder.decode_event(row["body"], row["target"], row["received_at"], None)

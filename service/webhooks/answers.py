"""Webhook requests of the last hour by target and answer, of all replicas.

Each process counts its answers in memory and adds what is new to a row per minute, so a flood costs the database
nothing. The summary is at most ``INTERVAL_SECONDS`` late.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from service.background import every
from service.store.database import Database

INTERVAL_SECONDS = 5.0


class AnswerRecorder:
    """Records in the database what ``counts``, by target and answer, has gained."""

    def __init__(self, database: Database, counts: Mapping[tuple[str, ...], int]) -> None:
        self._database = database
        self._counts = counts
        self._recorded: dict[tuple[str, ...], int] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Records until it is cancelled."""
        await every(INTERVAL_SECONDS, self._step, "webhook_answers_not_recorded")

    async def record(self) -> None:
        """One pass. What could not be recorded is recorded by the next one."""
        async with self._turn:
            counts = dict(self._counts)
            new = {key: count - self._recorded.get(key, 0) for key, count in counts.items()}
            gained = {key: count for key, count in new.items() if count}
            if gained:
                await self._database.queries.note_webhook_answers(
                    self._database.pool,
                    targets=[target for target, _ in gained],
                    answers=[answer for _, answer in gained],
                    requests=list(gained.values()),
                )
                self._recorded = counts

    async def list(self) -> list[dict[str, Any]]:
        """Requests of the last hour by target and answer, with the minute in which the last of them was recorded."""
        rows = self._database.queries.list_webhook_answers(self._database.pool)
        return [dict(row) async for row in rows]

    async def _step(self) -> None:
        await self.record()
        await self._database.queries.forget_webhook_answers(self._database.pool)

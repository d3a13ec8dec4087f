"""Comparisons on demand: they go on in the background when they take longer than a request should."""

import asyncio

import structlog

from service.errors import OutcomesError, UnavailableError
from service.reconciliation.drift import Assessment
from service.reconciliation.reconciler import Reconciler

logger = structlog.get_logger()

ANSWER_SECONDS = 10.0


class OnDemand:
    """Compares and heals requested batches, each once at a time, and then fetches their details."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._comparing: dict[int, asyncio.Task[Assessment]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def reconcile(self, batch_id: int) -> Assessment | None:
        """The assessment; None while it is under way, here or at another worker. Raises what ``reconcile_now`` raises
        within that time."""
        task = self._comparing.get(batch_id)
        if task is None:
            task = self._comparing[batch_id] = asyncio.create_task(self._reconciler.reconcile_now(batch_id))
            task.add_done_callback(lambda ended: self._end(batch_id, ended))
        await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        if not task.done():
            return None
        try:
            return task.result()
        except UnavailableError:  # another worker has the batch
            return None

    async def close(self) -> None:
        """Stops what is under way; another worker continues it."""
        tasks = [*self._comparing.values(), *self._reading]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, batch_id: int, task: asyncio.Task[Assessment]) -> None:
        del self._comparing[batch_id]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            if not isinstance(error, OutcomesError):
                logger.warning("reconciliation_failed", batch_id=batch_id, exc_info=error)
            return
        reading = asyncio.create_task(self._read_details(batch_id))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)

    async def _read_details(self, batch_id: int) -> None:
        try:
            await self._reconciler.read_details_now(batch_id)
        except Exception:
            logger.warning("details_failed", batch_id=batch_id, exc_info=True)

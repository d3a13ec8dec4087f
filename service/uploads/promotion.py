"""Promotion by itself: the main batch is sent once its test batch has succeeded as its uploader asked for.

Only on a test batch whose verdict is ``complete``: figures that may still change decide nothing.
"""

import structlog

from service.background import every
from service.errors import ApiError
from service.store.database import Database
from service.uploads.uploads import Uploader

logger = structlog.get_logger()


class Promoter:
    """Looks for test batches that have passed, for as long as it runs."""

    def __init__(self, database: Database, uploader: Uploader, *, interval_seconds: float = 5.0) -> None:
        self._database = database
        self._uploader = uploader
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Until it is cancelled."""
        await every(self._interval_seconds, self.promote_due, "promotion_failed")

    async def promote_due(self) -> None:
        """One pass."""
        due = [row["batch_id"] async for row in self._database.queries.list_due_promotions(self._database.pool)]
        for batch_id in due:
            try:
                promoted = await self._uploader.promote(batch_id)
            except ApiError as error:  # refused, lost, or another replica was faster: the upload's state tells
                logger.warning("promotion_not_made", batch_id=batch_id, status=error.status)
            else:
                logger.info("batch_promoted", batch_id=promoted.id)

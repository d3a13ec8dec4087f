"""Files of contacts that a killed service left in the temporary folder: they name people, so they must not stay."""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import structlog

logger = structlog.get_logger()

PREFIX = "outcomes-contacts-"
OLDEST_SECONDS = 6 * 3600  # longer than any upload takes


def make_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for one request, readable by this user alone and removed with the context."""
    return tempfile.TemporaryDirectory(prefix=PREFIX)


async def remove_leftovers(*, oldest_seconds: float = OLDEST_SECONDS) -> None:
    """Removes the folders whose request must have ended long ago."""
    count = await asyncio.to_thread(_remove, time.time() - oldest_seconds)
    if count:
        logger.warning("leftovers_removed", count=count)


def _remove(before: float) -> int:
    stale = [path for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if path.stat().st_mtime < before]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return len(stale)

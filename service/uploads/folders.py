"""Folders for files of contacts, and the removal of those that a killed process left, because they name people.

Next to each folder is a file that its owner keeps locked (``flock``). The kernel releases the lock however the process
ends. So a folder whose lock can be acquired has no owner and is removed.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

logger = structlog.get_logger()

PREFIX = "outcomes-contacts-"
SWEEP_SECONDS = 60.0
_LOCK = ".lock"
_UNLOCKED_SECONDS = 6 * 3600
"""Older versions lock nothing; one that still runs may use a folder for this long."""


@contextmanager
def make_folder() -> Iterator[str]:
    """A folder for one request, readable only by this user and removed when the block ends."""
    folder, lock = _lock_new_folder()
    try:
        folder.mkdir(mode=0o700)
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_path(folder).unlink(missing_ok=True)
        os.close(lock)


async def remove_leftovers() -> None:
    count = await asyncio.to_thread(_remove)
    if count:
        logger.warning("leftovers_removed", count=count)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _lock_new_folder() -> tuple[Path, int]:
    """The path of a folder to create, and the lock on it."""
    while True:
        folder = Path(tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(8)}"
        path = _lock_path(folder)
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A sweep may have removed it before it was locked.
        if path.exists():
            return folder, lock
        os.close(lock)


def _remove() -> int:
    base = Path(tempfile.gettempdir())
    names = {path.name.removesuffix(_LOCK) for path in base.glob(f"{PREFIX}*")}
    return sum(_remove_if_left(base / name) for name in names)


def _remove_if_left(folder: Path) -> bool:
    """Removes a folder and its lock unless a process holds the lock. Returns whether there was a folder."""
    try:
        lock = os.open(_lock_path(folder), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _remove_if_old(folder)
    except OSError:
        return False  # belongs to another user
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        was_there = folder.exists()
        shutil.rmtree(folder, ignore_errors=True)
        _lock_path(folder).unlink(missing_ok=True)
        return was_there
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _remove_if_old(folder: Path) -> bool:
    with suppress(OSError):
        if folder.stat().st_mtime < time.time() - _UNLOCKED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
            return True
    return False

"""The processes that use the embedded Postgres of a folder.

The wheel lists their numbers, and the last one on the list stops the server; but the wheel never removes those that
were killed. So each process also holds a lock on a file named after its number, which the kernel releases however it
ends: a number whose file is free belongs to no user, whatever other process has been given it since.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import psutil


class UserList:
    """The wheel's list for a data folder. This process is a user while the block lasts."""

    def __init__(self, folder: Path) -> None:
        self._list = folder / ".handle_pids.json"
        self._places = folder.parent / f"{folder.name}-users"
        self._held: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._places.mkdir(exist_ok=True)
        self._held = self._place_of(os.getpid()).open("ab")
        with contextlib.suppress(BlockingIOError):  # another block of this process holds it
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._held.close()
            self._is_held(os.getpid())

    def forget_dead(self) -> None:
        """Takes those off the list that are not alive."""
        if self._list.exists():
            noted_at = self._list.stat().st_mtime
            users = json.loads(self._list.read_text() or "[]")
            self._list.write_text(json.dumps([pid for pid in users if self._is_alive(pid, noted_at)]))

    def _place_of(self, pid: int) -> Path:
        return self._places / str(pid)

    def _is_alive(self, pid: int, noted_at: float) -> bool:
        is_held = self._is_held(pid)
        return _has_run_since(pid, noted_at) if is_held is None else is_held

    def _is_held(self, pid: int) -> bool | None:
        """Whether a process holds the file of this number, which is removed if none does; None where there is none:
        versions before this made none."""
        path = self._place_of(pid)
        try:
            with path.open("rb") as place:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return True
        return False


def _has_run_since(pid: int, moment: float) -> bool:
    """Whether the process that had this number at ``moment`` (seconds since the epoch) still runs."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment
    except psutil.NoSuchProcess:
        return False

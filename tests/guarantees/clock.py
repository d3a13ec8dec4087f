"""A wall clock that can be set while processes run: libfaketime, told by a file. Monotonic clocks go on as ever."""

import os
import time
from datetime import datetime
from pathlib import Path


def find_library() -> Path | None:
    """libfaketime for programs with several threads, where it is installed (Debian: ``apt-get install faketime``)."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class WallClock:
    """The clock of all processes that were started with its ``environ``; right until it is set."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._file = folder / "clock"
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "Europe/Berlin",
        }
        self.set_right()

    def set(self, moment: datetime) -> None:
        """It is ``moment`` now, and goes on from there."""
        self._write(round(moment.timestamp() - time.time()))

    def set_right(self) -> None:
        """It shows what other clocks show."""
        self._write(0)

    def _write(self, seconds: int) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+d}")
        written.chmod(0o644)  # Postgres runs as another user
        os.replace(written, self._file)  # noqa: PTH105 a reader never finds it half written

"""A wall clock that can be set while processes run: libfaketime with a file. Monotonic clocks are unaffected."""

import os
import time
from datetime import datetime
from pathlib import Path


def find_library() -> Path | None:
    """libfaketime for multi-threaded programs, if it is installed (Debian: ``apt-get install faketime``)."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class WallClock:
    """The clock of all processes started with its ``environ``; correct until it is set."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._file = folder / "clock"
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "Europe/Berlin",
        }
        self.set_real()

    def set(self, moment: datetime) -> None:
        """Sets the clock to ``moment``; it runs on from there."""
        self._write(round(moment.timestamp() - time.time()))

    def set_real(self) -> None:
        """Sets the clock to the real time."""
        self._write(0)

    def _write(self, seconds: int) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+d}")
        written.chmod(0o644)  # Postgres runs as another user
        os.replace(written, self._file)  # noqa: PTH105 atomic, so no reader finds it half written

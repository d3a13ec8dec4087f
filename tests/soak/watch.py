"""The measurements that a soak takes every few seconds, and the trend of memory over them."""

import statistics
import time
from typing import NamedTuple

import asyncpg
import psutil

MEGABYTE = 2**20
_STATE = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes,
       (SELECT sum(n_dead_tup) FROM pg_stat_user_tables)::bigint AS dead_tuples,
       (SELECT coalesce(last_value, 0) FROM feed_positions)
           - coalesce((SELECT min(position) FROM feed_consumers), 0) AS feed_lag
"""


class Sample(NamedTuple):
    """One measurement; sizes in MB, times in milliseconds."""

    seconds: float
    stored: int
    per_second: float
    p50_ms: float
    p99_ms: float
    service_mb: float
    postgres_mb: float
    files: int
    backlog: int
    wal_mb: float
    dead_tuples: int
    feed_lag: int

    @staticmethod
    def head() -> str:
        """The header of the table."""
        return (
            "    time      stored   rate/s  p50 ms  p99 ms  service MB  postgres MB  files  backlog    WAL MB"
            "  dead rows  feed lag"
        )

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        time, stored = f"{minutes:5d}:{seconds:02d}", f"{self.stored:10,d}"
        return (
            f"{time}  {stored}  {self.per_second:7,.0f}  {self.p50_ms:6.1f}  {self.p99_ms:6.1f}"
            f"  {self.service_mb:10.1f}  {self.postgres_mb:11.1f}  {self.files:5d}  {self.backlog:7d}"
            f"  {self.wal_mb:8,.0f}  {self.dead_tuples:9,d}  {self.feed_lag:8,d}"
        )


class Growth(NamedTuple):
    """The trend of a figure over the second half of a soak, by linear regression."""

    mb_per_hour: float
    risen_mb: float
    """The rise of the regression line over that half."""
    is_grown: bool


class Watch:
    """Measures the service, Postgres and the database."""

    def __init__(self, service: psutil.Process, postgres: psutil.Process, connection: asyncpg.Connection) -> None:
        self._service = service
        self._postgres = postgres
        self._connection = connection
        self._began = time.monotonic()
        self._wal_bytes: int | None = None
        self._last = (0.0, 0)

    async def measure(self, stored: int, latencies: list[float], backlog: int) -> Sample:
        """Takes a sample. ``stored``: acknowledged events in all; ``latencies``: seconds, since the last sample."""
        (row,) = await self._connection.fetch(_STATE)
        seconds = time.monotonic() - self._began
        if self._wal_bytes is None:
            self._wal_bytes = row["wal_bytes"]
        then, before = self._last
        self._last = (seconds, stored)
        ordered = sorted(latencies) or [0.0]
        return Sample(
            seconds,
            stored,
            (stored - before) / max(seconds - then, 0.001),
            1000 * ordered[len(ordered) // 2],
            1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
            self._service.memory_info().rss / MEGABYTE,
            _measure_shared(self._postgres),
            self._service.num_fds(),
            backlog,
            (row["wal_bytes"] - self._wal_bytes) / MEGABYTE,
            row["dead_tuples"],
            row["feed_lag"],
        )


def find_growth(samples: list[Sample]) -> Growth | None:
    """The trend of the service's memory in the second half; None if there are too few samples.

    A rise counts as growth above 8 MB and 5 %: smaller ones come and go.
    """
    half = samples[len(samples) // 2 :]
    if len(half) < 5:
        return None
    hours = [sample.seconds / 3600 for sample in half]
    slope, start = statistics.linear_regression(hours, [sample.service_mb for sample in half])
    risen = slope * (hours[-1] - hours[0])
    return Growth(slope, risen, risen > max(8.0, 0.05 * (start + slope * hours[0])))


def _measure_shared(process: psutil.Process) -> float:
    """The memory of a process and its children in MB; shared pages count once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            full = member.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total += getattr(full, "pss", full.rss)
    return total / MEGABYTE

"""From where on a measured value is worth a warning, or is a problem."""

from dataclasses import dataclass

GIGABYTE = 1024**3


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Seconds, bytes and numbers; the first of a pair warns, the second is a problem."""

    check_seconds: float = 10.0  # how long one check may take
    round_trip_seconds: tuple[float, float] = (0.02, 1.0)
    commit_seconds: tuple[float, float] = (0.1, 2.0)  # /readyz fails beyond the second
    transaction_seconds: tuple[float, float] = (300.0, 3600.0)
    idle_seconds: tuple[float, float] = (60.0, 900.0)
    prepared_seconds: float = 60.0
    slot_bytes: tuple[float, float] = (1 * GIGABYTE, 10 * GIGABYTE)
    wal_bytes: float = 1 * GIGABYTE
    free_bytes: tuple[float, float] = (5 * GIGABYTE, 1 * GIGABYTE)
    frozen_age_transactions: tuple[int, int] = (500_000_000, 1_500_000_000)
    clock_seconds: tuple[float, float] = (2.0, 60.0)
    certificate_days: float = 14.0
    webhook_seconds: tuple[float, float] = (1.0, 8.0)  # the provider gives up at 10
    due_seconds: tuple[float, float] = (900.0, 3600.0)
    consumer_lag_seconds: float = 3600.0
    backlog_events: int = 10_000


DEFAULT_THRESHOLDS = Thresholds()

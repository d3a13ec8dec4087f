"""The database's limits of what can be true are those of ``service/formant/plausible.py``."""

from datetime import UTC, datetime, timedelta

import pytest

from service.formant.plausible import (
    EARLIEST,
    LATEST,
    LONGEST_CALL_SECONDS,
    MAX_ATTEMPTS,
    plausible_attempts,
    plausible_duration,
    plausible_time,
)
from service.store.database import Database

MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    "time",
    [
        datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), EARLIEST - MOMENT, EARLIEST,
        LATEST - MOMENT, LATEST, datetime(2026, 3, 16, tzinfo=UTC), None,
    ],
)  # fmt: skip
async def test_a_time_is_plausible_to_both_or_neither(database: Database, time: datetime | None) -> None:
    assert await database.pool.fetchval("SELECT plausible_time($1)", time) == plausible_time(time)
    is_plausible = "SELECT is_plausible_fact($1, $2, $3, $4, 1, 1, 1)"
    for place in range(4):
        times = [time if n == place else None for n in range(4)]
        assert await database.pool.fetchval(is_plausible, *times) == (plausible_time(time) == time)


@pytest.mark.parametrize(
    "number", [-1, 0, 1, MAX_ATTEMPTS, MAX_ATTEMPTS + 1, LONGEST_CALL_SECONDS, LONGEST_CALL_SECONDS + 1, 2**31 - 1]
)
async def test_a_number_is_plausible_to_both_or_neither(database: Database, number: int) -> None:
    is_plausible = "SELECT is_plausible_fact(NULL, NULL, NULL, NULL, $1, $2, $3)"
    assert await database.pool.fetchval(is_plausible, number, None, None) == (plausible_duration(number) == number)
    for numbers in [(None, number, None), (None, None, number)]:
        assert await database.pool.fetchval(is_plausible, *numbers) == (plausible_attempts(number) == number)

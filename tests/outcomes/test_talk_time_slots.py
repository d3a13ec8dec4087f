"""The database counts talk time in the steps that percentiles are told from."""

from service.store.database import Database
from tests.outcomes.talking import slot_of


async def test_the_database_counts_in_the_same_steps(database: Database) -> None:
    rows = await database.pool.fetch("SELECT n, talk_time_slot(n) AS slot FROM generate_series(-5, 9000) AS n")
    assert {row["n"]: row["slot"] for row in rows} == {n: slot_of(max(n, 0)) for n in range(-5, 9001)}
    assert len({row["slot"] for row in rows}) == 289
    assert await database.pool.fetchval("SELECT talk_time_slot(2147483647)") == 8192

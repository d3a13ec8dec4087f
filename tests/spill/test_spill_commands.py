"""``outcomes spill status``, ``lost`` and ``off``."""

from service.outcomes.spilled import find_spilled
from service.store.database import Database
from tests.processes import OUTCOMES, run

WAITING = "INSERT INTO spill_states VALUES ('2026-03-16', 12, '2026-03-16 10:00Z', now() - $1::interval, true)"
UNREACHABLE = "INSERT INTO spill_replicas VALUES ('b', now() + interval '1 hour', NULL, '2026-03-16 10:00Z')"
GONE = "INSERT INTO spill_replicas VALUES ('a', now() - interval '1 hour', 'infinity')"


async def test_the_status_says_what_waits(database: Database) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    nothing = await run(OUTCOMES, "spill", "status", **settings)
    assert (nothing.status, nothing.output) == (0, "Nothing waits.\n")
    await database.pool.execute(WAITING.replace("$1", "'1 s'"))
    await database.pool.execute(GONE)
    await database.pool.execute(UNREACHABLE)
    waiting = await run(OUTCOMES, "spill", "status", **settings)
    assert waiting.status == 1
    assert "stream of 2026-03-16: 12 webhooks, the oldest since 2026-03-16 10:00:00 UTC" in waiting.output
    assert "replica b: cannot use the stream since 2026-03-16 10:00:00 UTC" in waiting.output
    assert "replica a: does not answer: it may have put webhooks into the stream" in waiting.output
    assert "No verdict is final: 12 webhooks wait to be stored since" in waiting.output


async def test_a_stream_that_nobody_reaches_is_given_up_and_that_is_recorded(database: Database) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    await database.pool.execute(WAITING.replace("$1", "'1 hour'"))
    await database.pool.execute(GONE)
    given_up = await run(OUTCOMES, "spill", "lost", "--yes", **settings)
    assert (given_up.status, given_up.output) == (0, "12 known webhooks given up; healing fetches what is missing.\n")
    assert await find_spilled(database) is None
    row = await database.pool.fetchrow("SELECT action, outcome, details FROM audit_log ORDER BY 1 DESC LIMIT 1")
    assert row is not None
    assert (row["action"], row["outcome"], row["details"]) == ("give_up_spill", "given up", '{"events": 12}')


async def test_a_stream_that_a_replica_reads_is_not_given_up(database: Database) -> None:
    await database.pool.execute(WAITING.replace("$1", "'1 s'"))
    refused = await run(OUTCOMES, "spill", "lost", "--yes", OUTCOMES_DATABASE_URL=database.url)
    assert (refused.status, "There is no lost spill stream" in refused.errors) == (2, True)
    assert await find_spilled(database) is not None


REPLACED = "INSERT INTO spill_states VALUES ('2026-03-17', 0, NULL, now(), false)"


async def test_a_stream_that_was_replaced_is_given_up_and_the_new_one_accepted(database: Database) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    await database.pool.execute(WAITING.replace("$1", "'1 hour'"))
    await database.pool.execute(REPLACED)
    status = await run(OUTCOMES, "spill", "status", **settings)
    assert "it is not the stream that was used before" in status.output
    assert "12 webhooks wait to be stored since 2026-03-16 10:00 UTC, and their stream was replaced" in status.output
    given_up = await run(OUTCOMES, "spill", "lost", "--yes", **settings)
    assert (given_up.status, given_up.output) == (0, "12 known webhooks given up; healing fetches what is missing.\n")
    rows = await database.pool.fetch("SELECT stream, is_accepted FROM spill_states")
    assert [tuple(row) for row in rows] == [("2026-03-17", True)]
    assert await find_spilled(database) is None


async def test_no_stream_is_given_up_while_replicas_reach_two(database: Database) -> None:
    await database.pool.execute(WAITING.replace("$1", "'50 s'"))
    await database.pool.execute(REPLACED)
    refused = await run(OUTCOMES, "spill", "lost", "--yes", OUTCOMES_DATABASE_URL=database.url)
    assert (refused.status, "give all replicas the same servers" in refused.errors) == (2, True)
    assert await database.pool.fetchval("SELECT count(*) FROM spill_states") == 2


async def test_a_spill_that_is_not_used_any_more_is_turned_off(database: Database) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    await database.pool.execute("INSERT INTO spill_states VALUES ('a', 0, NULL, now() - interval '1 hour', true)")
    await database.pool.execute("INSERT INTO spill_replicas VALUES ('a', now() + interval '1 hour')")
    used = await run(OUTCOMES, "spill", "off", **settings)
    assert (used.status, "replicas use the spill" in used.errors) == (2, True)
    await database.pool.execute("UPDATE spill_replicas SET alive_until = now() - interval '1 minute'")
    needed = await run(OUTCOMES, "spill", "off", **settings)
    assert (needed.status, "a replica may have put some into the stream" in needed.errors) == (2, True)
    await database.pool.execute("DELETE FROM spill_replicas")
    assert await find_spilled(database) is not None
    off = await run(OUTCOMES, "spill", "off", **settings)
    assert (off.status, off.output) == (0, "The spill is off.\n")
    assert await find_spilled(database) is None
    assert await database.pool.fetchval("SELECT count(*) FROM audit_log WHERE action = 'turn_off_spill'") == 1

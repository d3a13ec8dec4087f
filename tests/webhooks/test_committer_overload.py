"""Group commit while the database does not answer: every caller is asked in time to send again."""

import asyncio

import pytest

from service.errors import OverloadedError
from tests.webhooks.committing import Database, running


async def test_after_the_hold_time_callers_in_flight_and_behind_are_asked_to_send_again() -> None:
    database = Database(hold_seconds=0.05)
    async with running(database):
        in_flight = database.submit("a")
        write = await database.next_write()
        behind = database.submit("b")
        results = await asyncio.wait_for(asyncio.gather(in_flight, behind, return_exceptions=True), 10)
        assert [type(result) for result in results] == [OverloadedError, OverloadedError]
        assert write.outcome.cancelled(), "a write nobody waits for any more is broken off"
        assert database.count("outcomes_groups_total") == 0


async def test_a_group_that_keeps_failing_is_given_up_after_the_hold_time() -> None:
    database = Database(hold_seconds=0.2)

    async def fail() -> None:
        while True:
            (await database.next_write()).outcome.set_exception(ConnectionError("gone"))

    async with running(database):
        failing = asyncio.create_task(fail())
        with pytest.raises(OverloadedError, match="did not answer in time"):
            await asyncio.wait_for(database.submit("a"), 10)
        failing.cancel()
    failures = database.count("outcomes_group_failures_total")
    assert failures is not None
    assert failures >= 1


async def test_once_the_database_answers_again_new_callers_are_served() -> None:
    database = Database(hold_seconds=0.5)
    async with running(database):
        with pytest.raises(OverloadedError):
            await database.submit("lost")
        await database.next_write()
        future = database.submit("a")
        write = await database.next_write()
        assert write.names == ["a"]
        write.outcome.set_result(None)
        await future


async def test_a_caller_that_hangs_up_does_not_disturb_neighbours_that_fail() -> None:
    database = Database(hold_seconds=0.05)
    async with running(database):
        gone, waiting = database.submit("a"), database.submit("b")
        gone.cancel()
        with pytest.raises(OverloadedError):
            await waiting


async def test_callers_behind_a_write_that_cannot_be_cancelled_are_answered_in_time() -> None:
    database = Database(hold_seconds=0.05, is_stubborn=True)
    async with running(database):
        in_flight = database.submit("a")
        write = await database.next_write()
        behind = database.submit("b")
        with pytest.raises(OverloadedError, match="did not answer in time"):
            await asyncio.wait_for(behind, 10)
        assert not in_flight.done()
        write.outcome.set_result(None)
        with pytest.raises(OverloadedError):
            await in_flight


async def test_an_event_that_would_wait_longer_than_half_the_hold_time_is_refused_at_once() -> None:
    database = Database(hold_seconds=0.5)
    async with running(database):
        slow = database.submit("slow")
        write = await database.next_write()
        database.seconds += 1.0
        write.outcome.set_result(None)
        await slow
        database.committer.refuse_if_behind()  # nothing waits

        waiting = database.submit("waiting")
        with pytest.raises(OverloadedError, match=r"1 groups of 0\.3 s"):
            database.committer.refuse_if_behind()
        (await database.next_write()).outcome.set_result(None)
        await waiting
        database.committer.refuse_if_behind()


async def test_a_committer_that_dies_refuses_what_waits_and_what_comes_and_commits_once_it_runs_again() -> None:
    database = Database()
    database.seconds = "none"  # type: ignore[assignment]  # it dies of a clock that gives no number
    task = asyncio.create_task(database.committer.run())
    writing = database.submit("a")
    write = await database.next_write()
    behind = database.submit("b")
    write.outcome.set_result(None)
    with pytest.raises(TypeError):
        await task
    for future in (behind, database.submit("c")):
        with pytest.raises(OverloadedError, match="has died"):
            await future
    await writing  # it was committed before
    database.seconds = 0.0
    async with running(database):
        await asyncio.sleep(0)  # it begins
        after = database.submit("d")
        (await database.next_write()).outcome.set_result(None)
        await after

"""Group commit: which events are written together, and when a caller learns that it is done."""

import asyncio

import httpx
import pytest

from service.webhooks.committer import MAX_GROUP_BYTES, MAX_GROUP_EVENTS, Committer
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook
from tests.webhooks.committing import Database, let_others_run, running


async def test_an_idle_committer_writes_at_once_without_waiting_for_any_timer() -> None:
    database = Database()
    async with running(database):
        await let_others_run()
        future = database.submit("a")
        await let_others_run()
        assert database.writes.qsize() == 1
        (await database.next_write()).outcome.set_result(None)
        await future


async def test_a_caller_is_answered_only_after_its_group_was_written() -> None:
    database = Database()
    async with running(database):
        future = database.submit("a")
        write = await database.next_write()
        await let_others_run()
        assert not future.done()
        write.outcome.set_result(None)
        await future
    assert database.count("outcomes_groups_total") == 1
    assert database.count("outcomes_commit_seconds_count") == 1


async def test_while_one_group_is_written_the_next_gathers_in_the_order_of_arrival() -> None:
    database = Database()
    async with running(database):
        first = database.submit("a")
        write = await database.next_write()
        assert write.names == ["a"]
        others = [database.submit(name) for name in "bcd"]
        await let_others_run()
        assert database.writes.empty(), "one group at a time"
        write.outcome.set_result(None)
        await first
        write = await database.next_write()
        assert write.names == ["b", "c", "d"]
        assert not any(future.done() for future in others)
        write.outcome.set_result(None)
        await asyncio.gather(*others)
    assert database.count("outcomes_groups_total") == 2


async def test_groups_are_bounded_in_events() -> None:
    database = Database()
    futures = [database.submit(str(number)) for number in range(2 * MAX_GROUP_EVENTS + 1)]
    async with running(database):
        sizes = []
        for _ in range(3):
            write = await database.next_write()
            sizes.append(len(write.names))
            write.outcome.set_result(None)
        await asyncio.gather(*futures)
    assert sizes == [MAX_GROUP_EVENTS, MAX_GROUP_EVENTS, 1]


async def test_groups_are_bounded_in_bytes() -> None:
    database = Database()
    half = bytes(MAX_GROUP_BYTES // 2)
    futures = [database.submit(name, half) for name in "abcde"]
    async with running(database):
        groups = []
        for _ in range(3):
            write = await database.next_write()
            groups.append("".join(str(name) for name in write.names))
            write.outcome.set_result(None)
        await asyncio.gather(*futures)
    assert groups == ["ab", "cd", "e"]


async def test_a_group_that_cannot_be_written_is_tried_again_whole_until_it_is() -> None:
    database = Database()
    async with running(database):
        futures = [database.submit("a"), database.submit("b")]
        for _ in range(2):
            write = await database.next_write()
            assert write.names == ["a", "b"]
            write.outcome.set_exception(ConnectionError("gone"))
            await let_others_run()
            assert not any(future.done() for future in futures)
        (await database.next_write()).outcome.set_result(None)
        await asyncio.gather(*futures)
    assert database.count("outcomes_group_failures_total") == 2
    assert database.count("outcomes_groups_total") == 1


async def test_an_event_that_arrives_while_a_group_is_retried_waits_for_the_next_one() -> None:
    database = Database()
    async with running(database):
        database.submit("a")
        (await database.next_write()).outcome.set_exception(ConnectionError("gone"))
        late = database.submit("late")
        write = await database.next_write()
        assert write.names == ["a"]
        write.outcome.set_result(None)
        write = await database.next_write()
        assert write.names == ["late"]
        write.outcome.set_result(None)
        await late


async def test_a_caller_that_hangs_up_does_not_disturb_its_neighbours_and_is_written_all_the_same() -> None:
    database = Database()
    async with running(database):
        futures = [database.submit(name) for name in "abc"]
        futures[0].cancel()
        write = await database.next_write()
        futures[1].cancel()
        assert write.names == ["a", "b", "c"]
        write.outcome.set_result(None)
        await futures[2]
    assert [future.cancelled() for future in futures] == [True, True, False]


async def test_draining_writes_everything_that_was_submitted_and_then_ends() -> None:
    database = Database()
    task = asyncio.create_task(database.committer.run())
    first = database.submit("a")
    write = await database.next_write()
    second = database.submit("b")
    database.committer.drain()
    await let_others_run()
    assert not task.done()
    write.outcome.set_result(None)
    (await database.next_write()).outcome.set_result(None)
    await asyncio.wait_for(task, 10)
    assert first.done()
    assert second.done()


async def test_draining_an_idle_committer_ends_it_at_once() -> None:
    database = Database()
    task = asyncio.create_task(database.committer.run())
    await let_others_run()
    database.committer.drain()
    await let_others_run()
    assert task.done()


DEADLINE_SECONDS = 20.0


async def test_while_the_committer_is_dead_webhooks_are_refused_and_the_service_is_not_ready(
    service: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise ValueError("died")

    with monkeypatch.context() as broken:
        broken.setattr(Committer, "_commit", die)
        refused = await post_webhook(service, make_payload(event_id="refused"))
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        unready = await service.get("/readyz")
        assert (unready.status_code, "has died" in unready.json()["status"]) == (503, True)
    assert await read_metric(service, "outcomes_background_failures_total", task="committer") >= 1
    await eventually(lambda: service.get("/readyz"), lambda answer: answer.status_code == 200)
    assert (await post_webhook(service, make_payload(event_id="refused"))).status_code == 204
    assert (await service.get("/v1/events/refused")).status_code == 200

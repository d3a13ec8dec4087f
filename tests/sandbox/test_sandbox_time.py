"""The sandbox's virtual time: in order, exact, and without waiting."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.sandbox.clock import RunningClock, SteppedClock, Timeline, format_second, format_time


@contextlib.asynccontextmanager
async def running(timeline: Timeline) -> AsyncIterator[None]:
    task = asyncio.create_task(timeline.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def is_free() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_callbacks_run_in_the_order_of_their_times_and_get_the_time_they_were_due_at() -> None:
    timeline = Timeline(SteppedClock(100.0), is_free())
    seen: list[tuple[float, str]] = []
    for when, name in ((130.0, "c"), (110.0, "a"), (120.0, "b"), (120.0, "b2")):
        timeline.call_at(when, lambda when, name: seen.append((when, name)), name)
    async with running(timeline):
        await timeline.standing.wait()
    assert seen == [(110.0, "a"), (120.0, "b"), (120.0, "b2"), (130.0, "c")]


async def test_a_clock_that_pauses_stands_still_while_nothing_is_planned() -> None:
    clock = RunningClock(speed=1000.0, start=0.0, pauses=True)
    timeline = Timeline(clock, is_free())
    async with running(timeline):
        await timeline.standing.wait()
        began = clock.now()
        await asyncio.sleep(0.05)
        assert clock.now() == began < 50
        done = asyncio.Event()
        timeline.call_at(began + 50, lambda when: done.set())
        await asyncio.wait_for(done.wait(), 30)
        await timeline.standing.wait()
        ended = clock.now()
        await asyncio.sleep(0.05)
        assert clock.now() == ended >= began + 50


async def test_a_stepped_clock_never_passes_its_allowance() -> None:
    clock = SteppedClock(0.0, allowance=0)
    timeline = Timeline(clock, is_free())
    seen: list[float] = []
    for when in (10.0, 20.0):
        timeline.call_at(when, seen.append)
    async with running(timeline):
        for seconds, expected in ((5, []), (10, [10.0]), (10, [10.0, 20.0])):
            clock.allow(seconds)
            timeline.wake()
            await timeline.standing.wait()
            assert seen == expected
    assert timeline.now() == 25.0


async def test_nothing_happens_while_the_timeline_is_held() -> None:
    may_pass = asyncio.Event()
    timeline = Timeline(SteppedClock(0.0), may_pass)
    seen: list[float] = []
    timeline.call_at(1.0, seen.append)
    async with running(timeline):
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == []
        may_pass.set()
        await timeline.standing.wait()
    assert seen == [1.0]


async def test_an_earlier_callback_wakes_a_sleeping_timeline() -> None:
    timeline = Timeline(RunningClock(1.0, start=0.0), is_free())
    done = asyncio.Event()
    timeline.call_at(3600.0, lambda when: None)
    async with running(timeline):
        await timeline.standing.wait()
        timeline.call_at(0.0, lambda when: done.set())
        await done.wait()


def test_now_is_never_past_a_callback_that_is_due_and_has_not_run() -> None:
    timeline = Timeline(RunningClock(1.0, start=1000.0), is_free())
    timeline.call_at(10.0, lambda when: None)
    assert timeline.now() == 10.0


def test_a_running_clock_runs_at_its_speed() -> None:
    clock = RunningClock(1000.0, start=50.0)
    assert clock.now() >= 50.0
    assert clock.reach(50.0)
    assert not clock.reach(None)
    assert 3.0 < (clock.real_seconds_until(4050.0) or 0) <= 4.0
    assert clock.real_seconds_until(None) is None


def test_times_are_iso_8601_in_utc() -> None:
    assert format_time(1_773_657_000.25) == "2026-03-16T10:30:00.250Z"
    assert format_second(1_773_657_000.25) == "2026-03-16T10:30:00Z"

"""Background tasks survive their own errors, and end with the block that started them."""

import asyncio

import pytest
import structlog

from service.background import every, open_background
from service.telemetry.metrics import Metrics


async def test_a_failed_task_is_logged_counted_and_restarted() -> None:
    metrics, starts = Metrics(), asyncio.Queue[int]()
    begun = 0

    async def run() -> None:
        nonlocal begun
        begun += 1
        starts.put_nowait(begun)
        if begun < 3:
            raise ValueError("died")
        await asyncio.Event().wait()

    with structlog.testing.capture_logs() as logs:
        async with open_background(metrics, first_wait_seconds=0.001) as background:
            background.start("brittle", run)
            async with asyncio.timeout(10):
                while await starts.get() < 3:
                    pass
            assert background.stopped == set()
    assert [(entry["event"], entry["task"]) for entry in logs] == [("background_task_died", "brittle")] * 2
    assert metrics.registry.get_sample_value("outcomes_background_failures_total", {"task": "brittle"}) == 2


async def test_a_failed_task_is_listed_as_stopped_until_it_is_restarted() -> None:
    died = asyncio.Event()

    async def run() -> None:
        died.set()
        raise ValueError("died")

    async with open_background(Metrics(), first_wait_seconds=3600) as background:
        background.start("brittle", run)
        await died.wait()
        await asyncio.sleep(0)
        assert background.stopped == {"brittle"}


async def test_an_error_in_the_block_ends_the_tasks_and_is_raised_unchanged() -> None:
    ended = asyncio.Event()

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        async with open_background(Metrics()) as background:
            background.start("steady", run)
            await asyncio.sleep(0)
            raise KeyError("of the block")

    with pytest.raises(KeyError):
        await fail()
    assert ended.is_set()


async def test_a_failed_step_is_logged_and_repeated() -> None:
    taken = asyncio.Queue[int]()
    count = 0

    async def step() -> None:
        nonlocal count
        count += 1
        taken.put_nowait(count)
        if count == 1:
            raise ValueError("once")

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(every(0.001, step, "step_failed"))
        async with asyncio.timeout(10):
            while await taken.get() < 3:
                pass
        task.cancel()
    assert [entry["event"] for entry in logs] == ["step_failed"]


async def test_a_task_whose_library_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.background.CANCEL_SECONDS", 0.001)
    swallowed = 0

    async def run() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        async with open_background(Metrics()) as background:
            background.start("deaf", run)
            await asyncio.sleep(0)
    assert swallowed == 2

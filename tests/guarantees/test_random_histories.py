"""Thousands of random histories of an agent end as the rule says, and nothing is counted where it does not belong.

A history has batches of every kind (uploaded with references, with references that never come back, without; made in
the dashboard, found early or late, registered or not, larger than the provider says, seen finished and open again) that
share people, single calls and calls that come in to the same people and to strangers; each call's webhooks lost, told
twice, without numbers, times or parameters, or healed before or after, also by a real walk. The generator knows each
call's true owner; the system is never given it.
"""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.guarantees.histories import History, Plan, plans
from tests.guarantees.judging import Judge
from tests.guarantees.playing import Performance, Stage, open_stage
from tests.guarantees.recount import find_differences
from tests.guarantees.situations import SITUATIONS, list_situations

HISTORIES = int(os.environ.get("HISTORIES", "200"))
PLAYS = 2
DRAWING: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "derandomize": True,
    "report_multiple_bugs": False,
}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs the examples of a property: hypothesis calls plain functions."""
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture
def stage(runner: asyncio.Runner, database_url: str) -> Iterator[Stage]:
    opening = open_stage(database_url)
    yield runner.run(opening.__aenter__())
    runner.run(opening.__aexit__(None, None, None))


async def judge(stage: Stage, plan: Plan, agent: int, dice: Random) -> Judge:
    """Plays a history once, under a new agent, and holds what came of it against the rule and the truth."""
    history = History(plan, agent)
    performance = Performance(stage, history, dice)
    judged = Judge(history, await performance.run())
    with explained(judged, performance.story):
        async with stage.pool.acquire() as connection:
            await judged.read(connection)
            judged.check_places()
            await judged.check_outcomes(connection)
        judged.check_truth()
    return judged


@contextmanager
def explained(judged: Judge, story: list[str]) -> Iterator[None]:
    """Adds the whole history to a failure."""
    try:
        yield
    except AssertionError as error:
        error.add_note(judged.explain(story))
        raise


class Tally(Counter[str]):
    """What occurred in a run, so that it cannot pass by playing histories in which nothing happens."""

    def note(self, judged: Judge) -> None:
        """Adds a history."""
        self.update(list_situations(judged))
        self.update({"history": 1, "event": len(judged.events), "counted wrongly": len(judged.list_wrong())})

    def check(self) -> None:
        """Each kind of situation occurred in a hundredth of the histories."""
        assert {name: self[name] for name in SITUATIONS if self[name] < self["history"] // 100} == {}
        self.check_guesses()

    def check_guesses(self) -> None:
        """What nothing could tell apart is rare, though half of all that happens here is meant to deceive."""
        assert 0 < self["counted wrongly"] <= self["event"] / 12


@pytest.mark.timeout(3600)
def test_the_rule_itself_counts_no_call_where_anything_told_could_show_that_it_does_not_belong() -> None:
    tally = Tally()

    @settings(max_examples=4 * HISTORIES, **DRAWING)
    @given(plan=plans)
    def think(plan: Plan) -> None:
        history = History(plan, 1)
        judged = Judge(history, [told.event for told in history.told])
        with explained(judged, []):
            judged.check_truth()
        tally.note(judged)

    think()
    tally.check_guesses()


@pytest.mark.timeout(3600)
def test_in_every_history_each_event_is_counted_where_it_belongs_or_shown(runner: asyncio.Runner, stage: Stage) -> None:
    tally = Tally()
    agents = itertools.count(1)

    @settings(max_examples=HISTORIES, **DRAWING)
    @given(plan=plans, seed=st.integers(0, 2**32))
    def play(plan: Plan, seed: int) -> None:
        dice = Random(seed)
        for _ in range(PLAYS):
            judged = runner.run(judge(stage, plan, next(agents), dice))
        tally.note(judged)

    play()
    tally.check()

    async def recount() -> list[tuple[object, ...]]:
        async with stage.pool.acquire() as connection:
            return await find_differences(connection)

    assert runner.run(recount()) == []
    assert runner.run(stage.pool.fetchval("SELECT count(*) FROM quarantine")) == 0

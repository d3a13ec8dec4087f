"""Thousands of random histories end as the rule says, and no event is counted where it does not belong.

A history has batches of every kind (uploaded with references, with references that never come back, without; made in
the dashboard, found early or late, registered or not, larger than the provider says, seen finished and open again) that
share people, and single and inbound calls with the same people and with strangers. The webhooks of a call may be lost,
sent twice, without numbers, times or parameters; calls may be healed before or after, also by a real walk. The
generator knows the true owner of each call; the service never learns it.
"""

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.guarantees.histories import History, Plan, plans
from tests.guarantees.judging import Judge
from tests.guarantees.playing import Performance, Stage, open_stage
from tests.guarantees.recount import find_differences
from tests.guarantees.situations import SITUATIONS, list_situations

HISTORIES = int(os.environ.get("HISTORIES", "200"))
HISTORIES_SEED = os.environ["HISTORIES_SEED"]
PARTS = 8
PLAYS = 2
DRAWING: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "report_multiple_bugs": False,
}
each_part = pytest.mark.parametrize("part", range(PARTS))


@pytest.fixture
def stage(runner: asyncio.Runner, database_url: str) -> Iterator[Stage]:
    opening = open_stage(database_url)
    yield runner.run(opening.__aenter__())
    runner.run(opening.__aexit__(None, None, None))


async def judge(stage: Stage, plan: Plan, agent: int, dice: Random) -> Judge:
    """Plays a history once, under a new agent, and checks the result against the rule and the truth."""
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
    """Adds the whole history to an assertion error."""
    try:
        yield
    except AssertionError as error:
        error.add_note(judged.explain(story))
        raise


class Tally(Counter[str]):
    """Counts what occurred in a run, so that it cannot pass with histories in which nothing happens."""

    def note(self, judged: Judge) -> None:
        """Adds a history."""
        self.update(list_situations(judged))
        self.update({"history": 1, "event": len(judged.events), "counted wrongly": len(judged.list_wrong())})

    def check(self) -> None:
        """Each kind of situation occurred in at least 1 % of the histories; some hundred may lack a rare one."""
        least = self["history"] // 100 if self["history"] >= 1000 else 0
        assert {name: self[name] for name in SITUATIONS if self[name] < least} == {}

    def check_guesses(self) -> None:
        """Wrong guesses are rare, although half of the situations here are meant to deceive."""
        assert 0 < self["counted wrongly"] <= self["event"] / 12


@pytest.fixture
def tallies(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


def add_up(folder: Path, name: str, part: int, tally: Tally) -> Tally | None:
    """Saves the tally of a part; returns the sum of all parts if this is the last one."""
    written = folder / f"{name}-{part}.writing"
    written.write_text(json.dumps(tally))
    written.rename(folder / f"{name}-{part}.json")
    parts = list(folder.glob(f"{name}-*.json"))
    return (
        Tally(sum((Counter(json.loads(path.read_text())) for path in parts), Counter()))
        if len(parts) == PARTS
        else None
    )


@pytest.mark.timeout(3600)
@each_part
def test_the_rule_counts_no_call_where_any_report_could_show_that_it_does_not_belong(tallies: Path, part: int) -> None:
    tally = Tally()

    @seed(f"{HISTORIES_SEED} {part}")
    @settings(max_examples=4 * HISTORIES // PARTS, **DRAWING)
    @given(plan=plans)
    def think(plan: Plan) -> None:
        history = History(plan, 1)
        judged = Judge(history, [report.event for report in history.reports])
        with explained(judged, []):
            judged.check_truth()
        tally.note(judged)

    think()
    if whole := add_up(tallies, "thought", part, tally):
        whole.check_guesses()


@pytest.mark.timeout(3600)
@each_part
def test_in_every_history_each_event_is_counted_where_it_belongs_or_is_shown_as_open(
    runner: asyncio.Runner, stage: Stage, tallies: Path, part: int
) -> None:
    tally = Tally()
    agents = itertools.count(1)

    @seed(f"{HISTORIES_SEED} {part}")
    @settings(max_examples=HISTORIES // PARTS, **DRAWING)
    @given(plan=plans, dice_seed=st.integers(0, 2**32))
    def play(plan: Plan, dice_seed: int) -> None:
        dice = Random(dice_seed)
        for _ in range(PLAYS):
            judged = runner.run(judge(stage, plan, next(agents), dice))
        tally.note(judged)

    play()

    async def recount() -> list[tuple[object, ...]]:
        async with stage.pool.acquire() as connection:
            return await find_differences(connection)

    assert runner.run(recount()) == []
    assert runner.run(stage.pool.fetchval("SELECT count(*) FROM quarantine")) == 0
    if whole := add_up(tallies, "played", part, tally):
        whole.check()
        whole.check_guesses()

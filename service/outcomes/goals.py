"""Goals: what counts as success for an agent or a campaign, as a rule over the results of its calls.

The provider calls every completed call a success, also a wrong number. A goal counts the recipients whose latest
attempt meets a rule (``sql/functions/10_meets_goal.sql``) such as ``{"intent": ["promise_to_pay", "already_paid"]}``.
An agent has one goal at a time, and all its goals are kept. A campaign (a test batch and its main batch) may have its
own, which takes precedence in its batches (the view ``batch_goals``).

After a change the batches are counted again in small committed steps, which any replica can continue, the newest batch
first. Until its turn has come, a batch shows no figure rather than one of the goal before.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import msgspec
import structlog

from service.background import every
from service.errors import InvalidRequestError
from service.formant.wanted import Wanted, fold
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id

logger = structlog.get_logger()

Rule: TypeAlias = dict[str, list[Wanted]]

MAX_RESULTS = 10
MAX_VALUES = 50
MAX_CHARACTERS = 80
"""Of a name and of a value: results with longer ones are not counted by value either."""
STEP_RECIPIENTS = 1000
"""Recipients counted in one commit. Webhooks wait for the ingest lock meanwhile, a few hundredths of a second."""
PAGE_BATCHES = 500
INTERVAL_SECONDS = 2.0


def check_rule(results: Mapping[str, list[Wanted]]) -> Rule:
    """The rule as it is stored, without repeated values. Raises InvalidRequestError, which names what is wrong."""
    if not 1 <= len(results) <= MAX_RESULTS:
        raise InvalidRequestError(f"results: takes 1 to {MAX_RESULTS} results, all of which must match")
    for name, wanted in results.items():
        _check_text("results: a name", name)
        if not 1 <= len(wanted) <= MAX_VALUES:
            raise InvalidRequestError(f"results.{name}: takes 1 to {MAX_VALUES} values, any of which matches")
        for value in wanted:
            _check_text(f"results.{name}: a value", value if isinstance(value, str) else "0")
    return {name: _drop_repeated(wanted) for name, wanted in results.items()}


def _drop_repeated(wanted: list[Wanted]) -> list[Wanted]:
    """The values without those that match the same as an earlier one."""
    kept: dict[str | None, Wanted] = {}
    for value in wanted:
        kept.setdefault(fold(value), value)
    return list(kept.values())


def _check_text(what: str, text: str) -> None:
    if not 0 < len(text.strip()) <= MAX_CHARACTERS or "\0" in text or not text.isprintable():
        raise InvalidRequestError(f"{what} takes 1 to {MAX_CHARACTERS} printable characters")


class Subject(NamedTuple):
    """Whose goal it is: an agent's or a campaign's; the other is None."""

    agent_id: int | None = None
    campaign_id: int | None = None


async def set_goal(database: Database, subject: Subject, rule: Rule | None) -> bool:
    """Sets the goal of an agent or campaign, or removes it (None). Returns whether it was another one before."""
    actor = current_actor()
    changed: bool = await database.queries.set_goal(
        database.pool,
        **subject._asdict(),
        rule=None if rule is None else msgspec.json.encode(rule).decode(),
        actor=actor.name,
        key_id=actor.key_id,
        request_id=current_request_id(),
    )
    return changed


class GoalCounter:
    """Counts the batches from before a goal was set."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.finish, "goal_counting_failed")

    async def finish(self) -> None:
        """Counts the batches that changes of goals have left to count."""
        goals = [row async for row in self._database.queries.list_uncounted_goals(self._database.pool)]
        for goal in goals:
            await self._count(goal["goal_id"], Subject(goal["agent_id"], goal["campaign_id"]))

    async def _count(self, goal_id: int, subject: Subject) -> None:
        queries, pool = self._database.queries, self._database.pool
        before, batches = 2**63 - 1, 0
        while page := [
            row["batch_key"]
            async for row in queries.list_uncounted_batches(
                pool, **subject._asdict(), before=before, limit=PAGE_BATCHES
            )
        ]:
            for batch_key in page:
                while await queries.count_goal_step(pool, batch_key=batch_key, recipients=STEP_RECIPIENTS):
                    pass
            before, batches = page[-1], batches + len(page)
        await queries.finish_goal(pool, goal_id=goal_id)
        logger.info("goal_counted", agent_id=subject.agent_id, count=batches)

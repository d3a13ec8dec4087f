"""Goals of agents over HTTP."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.wanted import Wanted
from service.outcomes.goals import check_rule, set_goal
from service.store.database import Database
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Id, read_json
from service.web.responses import JsonResponse, One, Time

AGENT_ID = Id("agent_id", "agent", "The provider's id of the agent")
MAX_HISTORY = 1000
EXAMPLE = '{"results": {"intent": ["promise_to_pay", "already_paid"]}}'
Results = Annotated[dict[str, list[Wanted]], Meta(examples=[{"intent": ["promise_to_pay", "already_paid"]}])]


class GoalRule(msgspec.Struct, forbid_unknown_fields=True):
    """A goal: for each result of a call the values that meet it. All results must match, each by any of its values."""

    results: Results


class GoalVersion(msgspec.Struct):
    """A goal, and since when it is in force."""

    results: Results | None
    """Null: from then on the agent has no goal."""
    set_at: Time
    actor: str
    """The key that it was set with."""
    is_counted: bool
    """Whether the batches from before it are counted. Until then they show no goal rate."""


class Goal(GoalVersion):
    """The goal of an agent, and all its goals, the latest first."""

    agent_id: int
    history: list[GoalVersion]


class Goals:
    """Handlers of ``/v1/agents/{agent_id}/goal``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        path, answers = "/v1/agents/{agent_id}/goal", (Answer(One[Goal]),)
        return [
            Operation("GET", path, self.get, "read", "Outcomes", parameters=(AGENT_ID,), answers=answers),
            Operation(
                "PUT", path, self.put, "upload", "Outcomes", parameters=(AGENT_ID,), answers=answers,
                bodies=(Json(GoalRule, f"The results that meet the goal, such as `{EXAMPLE}`"),),
                errors=(InvalidRequestError,),
            ),
            Operation("DELETE", path, self.delete, "upload", "Outcomes", parameters=(AGENT_ID,), answers=answers),
        ]  # fmt: skip

    async def get(self, request: Request) -> Response:
        """The goal of an agent, by which `goal_rate` counts, and the goals before it."""
        return await self._show(AGENT_ID.read(request))

    async def put(self, request: Request) -> Response:
        """Sets the goal of an agent: which results of a call count as success. Batches that have calls already are
        counted again in the background. Text matches whatever its case and surrounding blanks; a list matches by any
        of its elements. The same goal again changes nothing."""
        agent_id = AGENT_ID.read(request)
        goal = await read_json(request, GoalRule, EXAMPLE)
        await set_goal(self._database, agent_id, check_rule(goal.results))
        return await self._show(agent_id)

    async def delete(self, request: Request) -> Response:
        """Removes the goal of an agent. Its history stays."""
        agent_id = AGENT_ID.read(request)
        await set_goal(self._database, agent_id, None)
        return await self._show(agent_id)

    async def _show(self, agent_id: int) -> Response:
        rows = self._database.queries.list_goals(self._database.pool, agent_id=agent_id, limit=MAX_HISTORY)
        history = [
            GoalVersion(
                results=None if row["rule"] is None else msgspec.json.decode(row["rule"]),
                set_at=row["set_at"],
                actor=row["actor"],
                is_counted=row["counted_at"] is not None,
            )
            async for row in rows
        ]
        if not history:
            raise NotFoundError(f"Agent {agent_id} has no goal: set one with PUT, such as {EXAMPLE}")
        present = msgspec.structs.asdict(history[0])
        return JsonResponse(One(Goal(agent_id=agent_id, **present, history=history)))

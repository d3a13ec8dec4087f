"""Goals of agents and campaigns over HTTP."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.wanted import Wanted
from service.outcomes.goals import Rule, Subject, check_rule, set_goal
from service.store.database import Database
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Id, read_json
from service.web.responses import JsonResponse, One, Time

AGENT_ID = Id("agent_id", "agent", "The provider's id of the agent")
CAMPAIGN_ID = Id("campaign_id", "campaign", "`campaign_id` of its batches: the upload id of the main batch")
MAX_HISTORY = 1000
EXAMPLE = '{"results": {"intent": ["promise_to_pay", "already_paid"]}}'
Results = Annotated[dict[str, list[Wanted]], Meta(examples=[{"intent": ["promise_to_pay", "already_paid"]}])]


class GoalRule(msgspec.Struct, forbid_unknown_fields=True):
    """A goal: for each result of a call the values that meet it. All results must match, each by any of its values."""

    results: Results


class GoalVersion(msgspec.Struct):
    """A goal, and since when it is in force."""

    results: Results | None
    """Null: from then on the agent has no goal, and a campaign that of its agent."""
    set_at: Time
    actor: str
    """The key that it was set with."""
    is_counted: bool
    """Whether the batches from before it are counted. Until then they show no goal rate."""


class GoalHistory(GoalVersion):
    """The present goal, and all goals, the latest first."""

    history: list[GoalVersion]


class AgentGoal(GoalHistory):
    """The goal of an agent, and all its goals, the latest first."""

    agent_id: int


class CampaignGoal(GoalHistory):
    """The goal of a campaign, and all its goals, the latest first."""

    campaign_id: int


class Goals:
    """Handlers of ``/v1/agents/{agent_id}/goal`` and ``/v1/campaigns/{campaign_id}/goal``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        agents, campaigns = "/v1/agents/{agent_id}/goal", "/v1/campaigns/{campaign_id}/goal"
        of_agent, of_campaign = (Answer(One[AgentGoal]),), (Answer(One[CampaignGoal]),)
        bodies = (Json(GoalRule, f"The results that meet the goal, such as `{EXAMPLE}`"),)
        return [
            Operation(
                "GET", agents, self.get_for_agent, "read", "Outcomes", parameters=(AGENT_ID,), answers=of_agent
            ),
            Operation(
                "PUT", agents, self.put_for_agent, "upload", "Outcomes", parameters=(AGENT_ID,), answers=of_agent,
                bodies=bodies, errors=(InvalidRequestError,),
            ),
            Operation(
                "DELETE", agents, self.delete_for_agent, "upload", "Outcomes", parameters=(AGENT_ID,), answers=of_agent
            ),
            Operation(
                "GET", campaigns, self.get_for_campaign, "read", "Outcomes", parameters=(CAMPAIGN_ID,),
                answers=of_campaign,
            ),
            Operation(
                "PUT", campaigns, self.put_for_campaign, "upload", "Outcomes", parameters=(CAMPAIGN_ID,),
                answers=of_campaign, bodies=bodies, errors=(InvalidRequestError,),
            ),
            Operation(
                "DELETE", campaigns, self.delete_for_campaign, "upload", "Outcomes", parameters=(CAMPAIGN_ID,),
                answers=of_campaign,
            ),
        ]  # fmt: skip

    async def get_for_agent(self, request: Request) -> Response:
        """The goal of an agent, by which `goal_rate` counts, and the goals before it."""
        return await self._show(Subject(agent_id=AGENT_ID.read(request)))

    async def put_for_agent(self, request: Request) -> Response:
        """Sets the goal of an agent: which results of a call count as success. Batches that have calls already are
        counted again in the background. Text matches whatever its case, surrounding blanks and spelling in Unicode,
        numbers by their value (1, 1.0 and "1" are the same); a list matches by any of its elements. The same goal again
        changes nothing."""
        return await self._put(request, Subject(agent_id=AGENT_ID.read(request)))

    async def delete_for_agent(self, request: Request) -> Response:
        """Removes the goal of an agent. Its history stays."""
        return await self._set(Subject(agent_id=AGENT_ID.read(request)), None)

    async def get_for_campaign(self, request: Request) -> Response:
        """The goal that a campaign (a test batch and its main batch) has of its own, and the goals before it."""
        return await self._show(await self._read_campaign(request))

    async def put_for_campaign(self, request: Request) -> Response:
        """Sets the goal of a campaign, which takes precedence over the agent's in its test batch and its main batch.
        Otherwise like the goal of an agent."""
        return await self._put(request, await self._read_campaign(request))

    async def delete_for_campaign(self, request: Request) -> Response:
        """Removes the goal of a campaign: its batches have the agent's again. Its history stays."""
        return await self._set(await self._read_campaign(request), None)

    async def _read_campaign(self, request: Request) -> Subject:
        campaign_id = CAMPAIGN_ID.read(request)
        if not await self._database.queries.has_campaign(self._database.pool, campaign_id=campaign_id):
            raise NotFoundError(
                f"There is no campaign {campaign_id}: `campaign_id` of a test batch's outcomes names one"
            )
        return Subject(campaign_id=campaign_id)

    async def _put(self, request: Request, subject: Subject) -> Response:
        goal = await read_json(request, GoalRule, EXAMPLE)
        return await self._set(subject, check_rule(goal.results))

    async def _set(self, subject: Subject, rule: Rule | None) -> Response:
        await set_goal(self._database, subject, rule)
        return await self._show(subject)

    async def _show(self, subject: Subject) -> Response:
        rows = self._database.queries.list_goals(self._database.pool, **subject._asdict(), limit=MAX_HISTORY)
        history = [
            GoalVersion(
                results=None if row["rule"] is None else msgspec.json.decode(row["rule"]),
                set_at=row["set_at"],
                actor=row["actor"],
                is_counted=row["counted_at"] is not None,
            )
            async for row in rows
        ]
        agent_id, campaign_id = subject
        if not history:
            who = f"Agent {agent_id}" if campaign_id is None else f"Campaign {campaign_id}"
            raise NotFoundError(f"{who} has no goal: set one with PUT, such as {EXAMPLE}")
        present = msgspec.structs.asdict(history[0])
        if campaign_id is not None:
            return JsonResponse(One(CampaignGoal(campaign_id=campaign_id, **present, history=history)))
        return JsonResponse(One(AgentGoal(agent_id=agent_id or 0, **present, history=history)))

"""Agents over HTTP: the columns that their files must have, and the fields that their recipients really have."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Id, Number
from service.web.responses import JsonResponse, One, Page, Time, to_page

AGENT_ID = Id("agent_id", "agent", "The provider's id of the agent")
MAX_ID = 10**18 - 1
ONLY_AGENT = Number("agent_id", "Only this agent", default=None, minimum=0, maximum=MAX_ID)
AFTER = Number("after", "Agents after this one: `next` of the previous page", default=None, minimum=0, maximum=MAX_ID)
LIMIT = Number("limit", "Maximum number of agents", default=100, minimum=1, maximum=100)

MAX_BATCHES = 200
MAX_NAMES = 1000


class ColumnsVersion(msgspec.Struct):
    """The columns that an upload fixed, or replaced with ``accept_columns=true``."""

    version: int
    columns: list[str]
    accepted_at: Time
    upload_id: int
    batch_id: int | None


class AgentColumns(ColumnsVersion):
    """The columns that an agent's next file must have, and all their versions, newest first."""

    agent_id: int
    history: list[ColumnsVersion]


class AgentFields(msgspec.Struct):
    """The fields of an agent's recipients in the feed: at most 1,000 names of each kind, of its newest 200 batches."""

    agent_id: int
    parameters: list[str]
    """Call parameters: the columns of its files, and those of calls whose file is not known."""
    results: list[str]
    """Results that at least one call had."""


class Agents:
    """Handlers of ``/v1/agents`` and ``/v1/fields``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/agents/{agent_id}/columns", self.get_columns, "read", "Uploads",
                parameters=(AGENT_ID,), answers=(Answer(One[AgentColumns]),),
            ),
            Operation(
                "GET", "/v1/fields", self.list_fields, "feed", "Feed",
                parameters=(ONLY_AGENT, AFTER, LIMIT), answers=(Answer(Page[AgentFields]),),
            ),
        ]  # fmt: skip

    async def get_columns(self, request: Request) -> Response:
        """The columns of an agent's files, now and before. The agent's first upload fixes them."""
        agent_id = AGENT_ID.read(request)
        rows = self._database.queries.list_agent_columns(self._database.pool, agent_id=agent_id)
        history = [ColumnsVersion(**row) async for row in rows]
        if not history:
            raise NotFoundError(f"Agent {agent_id} has no columns yet: its first upload fixes them")
        present = msgspec.structs.asdict(history[0])
        return JsonResponse(One(AgentColumns(agent_id=agent_id, **present, history=history)))

    async def list_fields(self, request: Request) -> Response:
        """The names in ``parameters`` and ``results`` of the feed's entries, by agent, for mappings. An agent without a
        batch is not listed."""
        limit = LIMIT.read(request)
        rows = self._database.queries.list_fields(
            self._database.pool, agent_id=ONLY_AGENT.read(request), after=AFTER.read(request), limit=limit + 1,
            batches=MAX_BATCHES, names=MAX_NAMES,
        )  # fmt: skip
        return JsonResponse(to_page([AgentFields(**row) async for row in rows], limit, "agent_id"))

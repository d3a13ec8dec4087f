"""Settings of callbacks over HTTP: which results of an agent are callbacks."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service.callbacks.callbacks import Callbacks, check_results
from service.errors import InvalidRequestError, NotFoundError
from service.store.database import Database
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Id, read_json
from service.web.responses import JsonResponse, One, Time

AGENT_ID = Id("agent_id", "agent", "The provider's id of the agent")
MAX_HISTORY = 1000
EXAMPLE = '{"results": ["callback_time", "promise_date"]}'
Names = Annotated[list[str], Meta(examples=[["callback_time", "promise_date"]])]


class CallbackResults(msgspec.Struct, forbid_unknown_fields=True):
    """Which results of a call are a time to call back, or a promise."""

    results: Names
    time_zone: Annotated[str, Meta(examples=["Asia/Kolkata"])] | None = None
    """An IANA name: the zone of days, and of times without an offset. Null: OUTCOMES_TIME_ZONE."""


class CallbackResultsVersion(msgspec.Struct):
    """A setting, and since when it is in force."""

    results: Names | None
    """Null: from then on the agent has no callbacks."""
    time_zone: str
    set_at: Time
    actor: str
    """The key that it was set with."""
    is_applied: bool
    """Whether the callbacks of earlier calls follow it."""


class AgentCallbacks(CallbackResultsVersion):
    """The setting of an agent, and all its settings, the latest first."""

    agent_id: int
    history: list[CallbackResultsVersion]


class CallbackSettingsCalls:
    """Handlers of ``/v1/agents/{agent_id}/callbacks``."""

    def __init__(self, database: Database, callbacks: Callbacks, *, default_time_zone: str) -> None:
        self._database = database
        self._callbacks = callbacks
        self._default_time_zone = default_time_zone

    def operations(self) -> list[Operation]:
        path, answers = "/v1/agents/{agent_id}/callbacks", (Answer(One[AgentCallbacks]),)
        return [
            Operation("GET", path, self.get, "read", "Callbacks", parameters=(AGENT_ID,), answers=answers),
            Operation(
                "PUT", path, self.put, "upload", "Callbacks", parameters=(AGENT_ID,), answers=answers,
                bodies=(Json(CallbackResults, f"The names of results, such as `{EXAMPLE}`"),),
                errors=(InvalidRequestError,),
            ),
            Operation("DELETE", path, self.delete, "upload", "Callbacks", parameters=(AGENT_ID,), answers=answers),
        ]  # fmt: skip

    async def get(self, request: Request) -> Response:
        """Which results of an agent are callbacks, and the settings before."""
        return await self._show(AGENT_ID.read(request))

    async def put(self, request: Request) -> Response:
        """Sets which results of an agent are callbacks: a time to call back, or a promise. Those of earlier calls
        follow in the background. The same setting again changes nothing."""
        agent_id = AGENT_ID.read(request)
        given = await read_json(request, CallbackResults, EXAMPLE)
        time_zone = self._default_time_zone if given.time_zone is None else _check_zone(given.time_zone)
        await self._callbacks.set_results(agent_id, check_results(given.results), time_zone)
        return await self._show(agent_id)

    async def delete(self, request: Request) -> Response:
        """Removes the setting of an agent, and with it the agent's callbacks. Marks and history stay."""
        agent_id = AGENT_ID.read(request)
        await self._callbacks.set_results(agent_id, None, self._default_time_zone)
        return await self._show(agent_id)

    async def _show(self, agent_id: int) -> Response:
        rows = self._database.queries.list_callback_results(self._database.pool, agent_id=agent_id, limit=MAX_HISTORY)
        history = [CallbackResultsVersion(**row) async for row in rows]
        if not history:
            raise NotFoundError(f"Agent {agent_id} has no callbacks: name their results with PUT, such as {EXAMPLE}")
        present = msgspec.structs.asdict(history[0])
        return JsonResponse(One(AgentCallbacks(agent_id=agent_id, **present, history=history)))


def _check_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequestError("time_zone: takes an IANA time zone such as Asia/Kolkata") from error

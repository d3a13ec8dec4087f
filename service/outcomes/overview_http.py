"""The overview over HTTP: batches at a glance, the agents that have batches, and today's figures."""

from collections.abc import Awaitable, Callable, Sized
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from service.outcomes.http import AGENT_ID, CAMPAIGN_ID, LIMIT, MAX_AGENT_ID, OFFSET, VERDICT
from service.outcomes.overview import SORTS, BatchPage, OverviewFilter, read_overview
from service.outcomes.present import Agent, Summary, list_agents, read_summary
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Number, Text
from service.web.responses import CACHE_CONTROL, JsonResponse, One, Page, to_page
from service.web.times import Period, TimeZone

MAX_TEXT = 200

Q = Text("q", "Only batches whose name contains this, in any case, or with this id", default=None, maximum=MAX_TEXT)
IS_RUNNING = Choice(
    "is_running", "Only batches that the provider has not finished, or only others", ("true", "false"), default=None
)
SORT = Choice(
    "sort", "The order; with `-`, the largest or latest first",
    tuple(f"{sign}{name}" for name in SORTS for sign in ("", "-")), default=f"-{SORTS[0]}",
)  # fmt: skip
AGENTS = Number("limit", "Maximum number of agents", default=100, minimum=1, maximum=200)
AFTER = Number(
    "after", "Agents after this one: `next` of the previous page", default=None, minimum=0, maximum=MAX_AGENT_ID
)


class Overview:
    """Handlers of ``/v1/batches``, ``/v1/agents`` and ``/v1/summary``. ``read_alarms`` returns the current alarms."""

    def __init__(
        self, database: Database, read_alarms: Callable[[], Awaitable[Sized]], *, default_time_zone: str
    ) -> None:
        self._database = database
        self._read_alarms = read_alarms
        self._time_zone = TimeZone("time_zone", "Time zone of today: an IANA name", default=default_time_zone)
        self._period = Period("batches created", default_time_zone=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/batches", self.list_batches, "read", "Outcomes",
                parameters=(
                    Q, AGENT_ID, CAMPAIGN_ID, IS_RUNNING, VERDICT, *self._period.parameters, SORT, LIMIT, OFFSET,
                ),
                answers=(Answer(BatchPage),),
            ),
            Operation(
                "GET", "/v1/agents", self.list_agents, "read", "Outcomes",
                parameters=(AFTER, AGENTS), answers=(Answer(Page[Agent]),),
            ),
            Operation(
                "GET", "/v1/summary", self.get_summary, "read", "Outcomes",
                parameters=(self._time_zone,), answers=(Answer(One[Summary]),),
            ),
        ]  # fmt: skip

    async def list_batches(self, request: Request) -> Response:
        """Batches at a glance: how far each is, how final its figures are, and when it is expected to end. At most
        5,000 batches are sorted by `recipients`, `reached` or `success_rate`."""
        start, until, _ = self._period.read(request)
        is_running = IS_RUNNING.read(request)
        sort = SORT.read(request)
        page = await read_overview(
            self._database,
            OverviewFilter(
                q=Q.read(request),
                agent_id=AGENT_ID.read(request),
                campaign_id=CAMPAIGN_ID.read(request),
                verdict=VERDICT.read(request),
                is_running=None if is_running is None else is_running == "true",
                start=start,
                until=until,
            ),
            sort=sort.removeprefix("-"),
            is_descending=sort.startswith("-"),
            limit=LIMIT.read(request),
            offset=OFFSET.read(request),
        )
        return JsonResponse(page, headers={"cache-control": CACHE_CONTROL})

    async def list_agents(self, request: Request) -> Response:
        """The agents that have batches, by id: how many, the latest, and the numbers that call."""
        limit = AGENTS.read(request)
        rows = await list_agents(self._database, AFTER.read(request), limit + 1)
        return JsonResponse(to_page(rows, limit, "agent_id"))

    async def get_summary(self, request: Request) -> Response:
        """What is going on: running batches, the calls of batches that began today in `time_zone`, alarms, and what
        waits for an answer."""
        name = self._time_zone.read(request)
        summary = await read_summary(
            self._database,
            now=datetime.now(UTC),
            zone=ZoneInfo(name),
            zone_name=name,
            alarms=len(await self._read_alarms()),
        )
        return JsonResponse(One(summary), headers={"cache-control": CACHE_CONTROL})

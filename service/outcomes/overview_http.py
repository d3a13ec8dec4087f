"""The overview over HTTP: batches at a glance."""

from starlette.requests import Request
from starlette.responses import Response

from service.outcomes.http import AGENT_ID, CAMPAIGN_ID, LIMIT, OFFSET, VERDICT
from service.outcomes.overview import SORTS, BatchPage, OverviewFilter, read_overview
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Text
from service.web.responses import CACHE_CONTROL, JsonResponse
from service.web.times import Period

MAX_TEXT = 200

Q = Text("q", "Only batches whose name contains this, in any case, or with this id", default=None, maximum=MAX_TEXT)
IS_RUNNING = Choice(
    "is_running", "Only batches that the provider has not finished, or only others", ("true", "false"), default=None
)
SORT = Choice(
    "sort", "The order; with `-`, the largest or latest first",
    tuple(f"{sign}{name}" for name in SORTS for sign in ("", "-")), default=f"-{SORTS[0]}",
)  # fmt: skip


class Overview:
    """Handler of ``GET /v1/batches``."""

    def __init__(self, database: Database, *, default_time_zone: str) -> None:
        self._database = database
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

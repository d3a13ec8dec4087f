"""Outcomes across batches over HTTP."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.outcomes.across import GROUPS, Scope, read_across
from service.store.database import Database
from service.web.json import JsonResponse
from service.web.operations import Operation
from service.web.parameters import read_moment, read_number, read_optional_number, read_time_zone

MAX_AGENT_ID = 2**63 - 1
MAX_GROUPS = 200
DEFAULT_DAYS = 30
MAX_DAYS = 366


class Across:
    """Handlers of ``/v1/outcomes``. ``now`` is the clock that the default range ends at."""

    def __init__(
        self,
        database: Database,
        *,
        default_time_zone: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._default_time_zone = default_time_zone
        self._now = now

    def operations(self) -> list[Operation]:
        return [Operation("GET", "/v1/outcomes", self.list, "read")]

    async def list(self, request: Request) -> Response:
        """Groups of batches, page by page."""
        group_by = request.query_params.get("group_by", GROUPS[0])
        if group_by not in GROUPS:
            raise InvalidRequestError(f"group_by: takes one of {', '.join(GROUPS)}")
        limit = read_number(request, "limit", 50, minimum=1, maximum=MAX_GROUPS)
        scope = self._read_scope(request)
        page = await read_across(self._database, scope, group_by, request.query_params.get("after"), limit)
        return JsonResponse(
            {
                "data": page.groups,
                "next": page.next,
                "has_more": page.next is not None,
                "as_of": page.as_of or self._now(),
                "group_by": group_by,
                "from": scope.start,
                "to": scope.end,
                "time_zone": scope.time_zone,
            },
            headers={"cache-control": "private, no-cache"},
        )

    def _read_scope(self, request: Request) -> Scope:
        """``from`` to ``to``: times, or days of the time zone, ``to`` being the last of them; without, the last 30."""
        time_zone = read_time_zone(request, "time_zone", self._default_time_zone)
        zone = ZoneInfo(time_zone)
        tomorrow = self._now().astimezone(zone).date() + timedelta(days=1)
        end = read_moment(request, "to", zone, ends_day=True) or _begin(tomorrow, zone)
        start = read_moment(request, "from", zone) or _begin(
            end.astimezone(zone).date() - timedelta(days=DEFAULT_DAYS), zone
        )
        if not start < end:
            raise InvalidRequestError("from, to: the time has to end after it begins")
        if end - start > timedelta(
            days=MAX_DAYS, hours=2
        ):  # a year may begin and end on different sides of the clocks' change
            raise InvalidRequestError(f"from, to: take at most {MAX_DAYS} days")
        agent_id = read_optional_number(request, "agent_id", minimum=0, maximum=MAX_AGENT_ID)
        return Scope(start, end, agent_id, time_zone)


def _begin(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

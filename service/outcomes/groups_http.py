"""Outcomes across batches over HTTP."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.outcomes.groups import GROUPS, Scope, read_across
from service.outcomes.http import AGENT_ID
from service.outcomes.shapes import GroupPage
from service.store.database import Database
from service.web.json import JsonResponse
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Free, Moment, Number, TimeZone

MAX_GROUPS = 200
DEFAULT_DAYS = 30
MAX_DAYS = 366

GROUP_BY = Choice("group_by", "What the batches of a group have in common", GROUPS, default=GROUPS[0])
FROM = Moment("from", f"Batches created from then on: a day in the time zone, or a time. Default: {DEFAULT_DAYS} days")
TO = Moment(
    "to", f"Batches created before then; a day is included. At most {MAX_DAYS} days. Default: today", ends_day=True
)
LIMIT = Number("limit", "Maximum number of groups", default=50, minimum=1, maximum=MAX_GROUPS)
AFTER = Free("after", "`next` of the previous page", "the `next` of a page with the same group_by", "?")


class Across:
    """Handlers of ``/v1/outcomes``. ``now`` is the clock that ends the default period."""

    def __init__(
        self,
        database: Database,
        *,
        default_time_zone: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._time_zone = TimeZone("time_zone", "Time zone of the days: an IANA name", default=default_time_zone)
        self._now = now

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/outcomes", self.list, "read", "Outcomes",
                parameters=(GROUP_BY, FROM, TO, self._time_zone, AGENT_ID, LIMIT, AFTER),
                answers=(Answer(GroupPage),),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """Outcomes across the batches created in a period, in groups. A batch belongs to the period in which the
        provider created it, a campaign as a whole to the period of its test batch."""
        group_by, limit = GROUP_BY.read(request), LIMIT.read(request)
        scope = self._read_scope(request)
        page = await read_across(self._database, scope, group_by, AFTER.read(request), limit)
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
        """The period, agent and time zone. ``from`` and ``to`` are times, or days of the time zone with ``to`` as the
        last one; the default is the last 30 days."""
        time_zone = self._time_zone.read(request)
        zone = ZoneInfo(time_zone)
        tomorrow = self._now().astimezone(zone).date() + timedelta(days=1)
        end = TO.read_in(request, zone) or _find_midnight(tomorrow, zone)
        start = FROM.read_in(request, zone)
        if start is None:
            start = _find_midnight(end.astimezone(zone).date() - timedelta(days=DEFAULT_DAYS), zone)
        if not start < end:
            raise InvalidRequestError("from, to: the period must end after it begins")
        # A year may begin and end on different sides of a clock change.
        if end - start > timedelta(days=MAX_DAYS, hours=2):
            raise InvalidRequestError(f"from, to: take at most {MAX_DAYS} days")
        agent_id = AGENT_ID.read(request)
        return Scope(start, end, agent_id, time_zone)


def _find_midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

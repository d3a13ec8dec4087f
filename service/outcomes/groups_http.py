"""Outcomes across batches over HTTP."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.outcomes.groups import GROUPS, BatchFilter, read_groups
from service.outcomes.http import AGENT_ID
from service.outcomes.shapes import GroupPage
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Choice, Free, Number
from service.web.responses import JsonResponse
from service.web.times import Period

MAX_GROUPS = 200
DEFAULT_DAYS = 30
MAX_DAYS = 366

GROUP_BY = Choice("group_by", "What batches of a group have in common", GROUPS, default=GROUPS[0])
LIMIT = Number("limit", "Maximum number of groups", default=50, minimum=1, maximum=MAX_GROUPS)
AFTER = Free("after", "`next` of the previous page", "the `next` of a page with the same group_by")


class OutcomeGroups:
    """Handlers of ``/v1/outcomes``."""

    def __init__(self, database: Database, *, default_time_zone: str) -> None:
        self._database = database
        self._period = Period("batches created", default_time_zone=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/outcomes", self.list, "read", "Outcomes",
                parameters=(GROUP_BY, *self._period.parameters, AGENT_ID, LIMIT, AFTER),
                answers=(Answer(GroupPage),),
            ),
        ]  # fmt: skip

    async def list(self, request: Request) -> Response:
        """Outcomes across the batches created in a period, by group. A batch belongs to the period in which the
        provider created it, a whole campaign to the period of its test batch. At most 366 days; by default the 30 days
        up to today or to ``to``."""
        group_by, limit = GROUP_BY.read(request), LIMIT.read(request)
        batch_filter = self._read_filter(request)
        page = await read_groups(self._database, batch_filter, group_by, AFTER.read(request), limit)
        return JsonResponse(
            {
                "data": page.groups,
                "next": page.next,
                "has_more": page.next is not None,
                "as_of": page.as_of or datetime.now(UTC),
                "group_by": group_by,
                "from": batch_filter.start,
                "to": batch_filter.end,
                "time_zone": batch_filter.time_zone,
            },
            headers={"cache-control": "private, no-cache"},
        )

    def _read_filter(self, request: Request) -> BatchFilter:
        start, end, zone = self._period.read(request)
        end = end or _find_midnight(datetime.now(zone).date() + timedelta(days=1), zone)
        start = start or _find_midnight(end.astimezone(zone).date() - timedelta(days=DEFAULT_DAYS), zone)
        # Two hours more, because the clocks may change in between.
        if end - start > timedelta(days=MAX_DAYS, hours=2):
            raise InvalidRequestError(f"from, to: take at most {MAX_DAYS} days")
        return BatchFilter(start, end, AGENT_ID.read(request), zone.key)


def _find_midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

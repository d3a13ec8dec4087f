"""Comparisons over HTTP."""

from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError
from service.outcomes.comparison import Comparer
from service.outcomes.comparison_shapes import Comparison
from service.outcomes.sides import Side
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Free
from service.web.responses import JsonResponse, One
from service.web.times import TimeZone

LEFT = Side("left", "What to compare with, such as the week before: see `docs/analyse/figures.md`")
RIGHT = Side("right", "What to compare; differences and verdicts are those of the right side against the left one")
BY = Free(
    "by", "Also compare, value by value, the caller numbers (`caller_numbers`) or a result (`results.intent`)",
    "caller_numbers or results.NAME",
)  # fmt: skip


class Comparisons:
    """Handlers of ``/v1/compare``."""

    def __init__(self, database: Database, *, default_time_zone: str) -> None:
        self._comparer = Comparer(database)
        self._time_zone = TimeZone("time_zone", "Time zone of days: an IANA name", default=default_time_zone)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/compare", self.compare, "read", "Outcomes",
                parameters=(LEFT, RIGHT, BY, self._time_zone), answers=(Answer(One[Comparison]),),
                errors=(NotFoundError,),
            ),
        ]  # fmt: skip

    async def compare(self, request: Request) -> Response:
        """Two batches, campaigns or periods, figure by figure, each with its sample, the confidence interval of the
        difference, and a verdict that names no winner where there may be none."""
        time_zone = self._time_zone.read(request)
        zone = ZoneInfo(time_zone)
        left, right = LEFT.read_in(request, zone), RIGHT.read_in(request, zone)
        comparison = await self._comparer.compare(left, right, BY.read(request), time_zone)
        return JsonResponse(One(comparison), headers={"cache-control": "private, no-cache"})

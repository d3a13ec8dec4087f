"""Alarms over HTTP."""

from starlette.requests import Request
from starlette.responses import Response

from service.alarms.alarms import AlarmList, AlarmWatch, describe
from service.web.operations import Answer, Operation
from service.web.responses import JsonResponse


class Alarms:
    """Handler of ``GET /v1/alarms``."""

    def __init__(self, watch: AlarmWatch) -> None:
        self._watch = watch

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/alarms", self.list_alarms, "read", "Operation",
                parameters=(),
                answers=(Answer(AlarmList),),
            ),
        ]  # fmt: skip

    async def list_alarms(self, request: Request) -> Response:
        """The current problems: since when, how many, and what to do."""
        return JsonResponse(describe(await self._watch.refresh()))

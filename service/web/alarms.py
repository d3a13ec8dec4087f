"""Alarms over HTTP."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.reconcile.alarms import AlarmWatch, describe
from service.web.auth import Authenticator
from service.web.json import JsonResponse


class Alarms:
    """Handler of ``GET /v1/alarms``."""

    def __init__(self, authenticator: Authenticator, watch: AlarmWatch) -> None:
        self._authenticator = authenticator
        self._watch = watch

    def routes(self) -> list[Route]:
        return [Route("/v1/alarms", self.list_alarms, methods=["GET"])]

    async def list_alarms(self, request: Request) -> Response:
        """What is wrong now, since when, how much of it, and what to do."""
        self._authenticator.require(request)
        return JsonResponse(describe(await self._watch.look()))

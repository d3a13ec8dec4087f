"""A local endpoint of the generic kind: takes records with a bearer token, and repeats of a batch only once."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.server.process import Service, serve_in_background
from tests.crm.hubspot_server import TOKEN

PATH = "/outcomes"


class LocalCrm:
    """Keeps the properties of each id. ``refused`` ids fail, with a status of their own or the whole batch with 422."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.batches: list[list[dict[str, Any]]] = []
        self.keys: list[str] = []
        self.refused: dict[str, str] = {}
        self.has_statuses = True
        self.faults: deque[Callable[[], Response]] = deque()
        self.url = ""

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator["LocalCrm"]:
        """Serves on this machine; ``url`` is its address meanwhile."""
        app = Starlette(routes=[Route(PATH, self._answer, methods=["POST"])])
        async with serve_in_background(Service(app), "127.0.0.1", port) as taken:
            self.url = f"http://127.0.0.1:{taken}{PATH}"
            yield self

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": {"message": "who are you?"}}, 401)
        records = (await request.json())["records"]
        is_repeated = (key := request.headers["idempotency-key"]) in self.keys
        self.batches.append(records)
        self.keys.append(key)
        if self.faults:
            return self.faults.popleft()()
        wrong = [record["id"] for record in records if record["id"] in self.refused]
        if wrong and not self.has_statuses:
            return JSONResponse({"error": {"message": self.refused[wrong[0]], "type": "invalid_request"}}, 422)
        if not is_repeated:
            self.records |= {record["id"]: record["properties"] for record in records if record["id"] not in wrong}
        if not self.has_statuses:
            return Response(status_code=204)
        return JSONResponse(
            {
                "results": [
                    {"id": record["id"], "status": "ok"}
                    if record["id"] not in wrong
                    else {"id": record["id"], "status": "error", "message": self.refused[record["id"]]}
                    for record in records
                ]
            }
        )

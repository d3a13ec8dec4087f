"""A local HubSpot: the batch upsert of its public API with its shapes, limits and refusals, and the list of properties,
over real HTTP. It knows what it accepted, so tests can hold the job to it."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.server.process import Service, serve_in_background

TOKEN = "crm-token"
LARGEST_BATCH = 100
INTERVAL_MS = 10_000
TIME = "2026-03-16T10:30:00.000Z"

PROPERTIES = (
    "loan_id", "call_id", "outcome", "attempts", "intent", "phone", "channel", "is_final", "due", "tags", "x", "y",
)  # fmt: skip

Fault = Callable[[], Response] | Literal["cut"]


def problem(status: int, message: str, category: str = "VALIDATION_ERROR", **more: Any) -> JSONResponse:
    """A refusal as HubSpot words it."""
    headers = more.pop("headers", None)
    content = {"status": "error", "message": message, "correlationId": "c-1", "category": category, **more}
    return JSONResponse(content, status, headers)


def too_many(policy: str, **headers: str) -> JSONResponse:
    """Over a limit: 429."""
    return problem(
        429, f"You have reached your {policy.lower()} limit.", "RATE_LIMITS", errorType="RATE_LIMIT", policyName=policy,
        headers=headers,
    )  # fmt: skip


def no_such_property(name: str) -> JSONResponse:
    """The batch is refused since there is no such property."""
    detail = {"isValid": False, "message": f'Property "{name}" does not exist', "error": "PROPERTY_DOESNT_EXIST"}
    problems = json.dumps([detail | {"name": name}])
    return problem(
        400, f"Property values were not valid: {problems}",
        errors=[{"message": problems, "code": "PROPERTY_DOESNT_EXIST", "context": {"propertyName": [name]}}],
    )  # fmt: skip


class LocalHubSpot:
    """Keeps objects by their unique property, whose values differ in more than case. ``faults`` are done first, in the
    place of a batch; ``edit`` then changes what a batch that was taken is answered with.

    ``partial`` is what a batch with bad inputs is answered with: 207 that names them by trace id, by id, only the
    first of them or none, or 400 for the whole. ``options`` are the values that a property takes; others take any.
    Results name their input by what is in ``echo``: its trace id, its unique property, or neither. ``accepted`` counts
    upserts by the trace id of their input, and ``properties`` are those that there are.
    """

    def __init__(self, partial: Literal["traces", "ids", "first", "nobody", "whole"] = "traces") -> None:
        self.partial = partial
        self.id_property = "loan_id"
        self.objects: dict[str, dict[str, str]] = {}
        self.options: dict[str, set[str]] = {}
        self.properties: dict[str, dict[str, Any]] = {
            name: {"name": name, "hasUniqueValue": name == "loan_id"} for name in PROPERTIES
        }
        self.faults: deque[Fault] = deque()
        self.edit: Callable[[dict[str, Any]], object] = lambda content: None
        self.echo: set[Literal["trace", "property"]] = {"trace", "property"}
        self.accepted: Counter[str] = Counter()
        self.ids: dict[str, str] = {}
        self.property_faults: deque[Callable[[], Response]] = deque()
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.remaining = 100
        self.url = ""
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._is_taken_while_held = False

    def hold(self, *, taken: bool = False) -> None:
        """Lets requests come in, and answers none from now on; what they bring is ``taken`` anyway, or not."""
        self._is_taken_while_held = taken
        self._may_answer.clear()

    def release(self) -> None:
        """Answers again."""
        self._may_answer.set()

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator["LocalHubSpot"]:
        """Serves on this machine; ``url`` is its address meanwhile."""
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])
        async with serve_in_background(Service(app), "127.0.0.1", port) as taken:
            self.url = f"http://127.0.0.1:{taken}"
            yield self

    async def _answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "Authentication credentials not found", "INVALID_AUTHENTICATION")
        if request.url.path == "/crm/v3/properties/contacts" and request.method == "GET":
            listed = JSONResponse({"results": list(self.properties.values())})
            return self.property_faults.popleft()() if self.property_faults else listed
        if request.method != "POST" or request.url.path != "/crm/v3/objects/contacts/batch/upsert":
            return problem(404, "resource not found", "OBJECT_NOT_FOUND")
        content = await request.json()
        self.requests.append(content)
        if not self._may_answer.is_set():
            if self._is_taken_while_held:
                self._upsert(content["inputs"])
            await self._may_answer.wait()
        fault = self.faults.popleft() if self.faults else None
        if fault == "cut":
            self._upsert(content["inputs"])
            return cut_off()
        answer = fault() if fault else self._upsert(content["inputs"])
        answer.headers["x-hubspot-ratelimit-max"] = "100"
        answer.headers["x-hubspot-ratelimit-remaining"] = str(self.remaining)
        answer.headers["x-hubspot-ratelimit-interval-milliseconds"] = str(INTERVAL_MS)
        return answer

    def _upsert(self, inputs: list[dict[str, Any]]) -> Response:
        if len(inputs) > LARGEST_BATCH:
            return problem(400, f"The maximum number of inputs supported in a batch request is {LARGEST_BATCH}.")
        if gone := sorted({name for each in inputs for name in each["properties"]} - self.properties.keys()):
            return no_such_property(gone[0])
        ids = [each["id"].lower() for each in inputs]
        if twice := sorted({each for each in ids if ids.count(each) > 1}):
            return problem(400, f"Duplicate IDs found in batch input: [{twice[0]}]. IDs must be unique")
        wrong = {each["id"]: why for each in inputs if (why := self._find_fault(each))}
        if wrong and self.partial == "whole":
            return problem(400, next(iter(wrong.values())))
        results = [self._store(each) for each in inputs if each["id"] not in wrong]
        done: dict[str, Any] = {"status": "COMPLETE", "startedAt": TIME, "completedAt": TIME, "results": results}
        if not wrong:
            self.edit(done)
            return JSONResponse(done)
        errors = [
            {"status": "error", "category": "VALIDATION_ERROR", "message": wrong[each["id"]]} | self._name(each)
            for each in inputs
            if each["id"] in wrong
        ]
        done |= {"numErrors": len(errors), "errors": errors[:1] if self.partial == "first" else errors}
        self.edit(done)
        return JSONResponse(done, 207)

    def _name(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.partial == "nobody":
            return {}
        name, value = (
            ("ids", given["id"]) if self.partial == "ids" else ("objectWriteTraceId", given["objectWriteTraceId"])
        )
        return {"context": {name: [value]}}

    def _find_fault(self, given: dict[str, Any]) -> str | None:
        assert given["idProperty"] == self.id_property
        for name, value in given["properties"].items():
            assert isinstance(value, str)
            if value and value not in self.options.get(name, {value}):
                return f"Property values were not valid: {value} was not one of the allowed options of {name}"
        return None

    def _store(self, given: dict[str, Any]) -> dict[str, Any]:
        is_new = given["id"].lower() not in self.objects
        object_id = self.ids.setdefault(given["id"].lower(), str(1000 + len(self.ids)))
        self.accepted[given["objectWriteTraceId"]] += 1
        stored = self.objects.setdefault(given["id"].lower(), {})
        stored |= {name: value for name, value in given["properties"].items() if value}
        for name in [name for name, value in given["properties"].items() if not value]:
            stored.pop(name, None)
        named: dict[str, Any] = {self.id_property: given["id"]} if "property" in self.echo else {}
        trace = {"objectWriteTraceId": given["objectWriteTraceId"]} if "trace" in self.echo else {}
        return {
            "id": object_id, "properties": {"hs_object_id": object_id, **named}, "createdAt": TIME, "updatedAt": TIME,
            "archived": False, "new": is_new, **trace,
        }  # fmt: skip


def cut_off() -> Response:
    """An answer that is cut off although the batch was accepted."""

    async def half() -> AsyncIterator[bytes]:
        yield json.dumps({"status": "COMPLETE"}).encode()[:10]
        raise ConnectionResetError

    return StreamingResponse(half(), 200, {"content-length": "1000"})

"""Operations: each route declared once, with its method, path, handler, scope, parameters and answers.

A group of handlers lists its operations; ``to_handler`` checks the key in front of each handler and refuses parameters
that the operation does not declare. ``service.web.openapi`` documents the same operations.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.errors import ApiError, InvalidRequestError
from service.spelling import find_near
from service.web.parameters import SHOWN_CHARACTERS, Parameter
from service.web.scopes import Scope

Handler = Callable[[Request], Awaitable[Response]]
RETRY_AFTER = ("Retry-After", "Seconds to wait before the next try")


class Answer(NamedTuple):
    """A successful answer; ``shape`` is a type that msgspec knows, None for no body."""

    shape: Any
    description: str = "Success"
    status: int = 200
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    """Names and descriptions of those that a client may want to read."""


class Form(NamedTuple):
    """A body in ``multipart/form-data``: a CSV as the part ``file``, and fields, of which ``needed`` are required."""

    fields: tuple[Parameter[Any, Any], ...] = ()
    needed: tuple[Parameter[Any, Any], ...] = ()


class File(NamedTuple):
    """A CSV as the body itself."""

    description: str


class Json(NamedTuple):
    """A body in JSON."""

    shape: Any
    description: str


class Operation(NamedTuple):
    """One method of one path. ``scope`` None: open to everyone."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    scope: Scope | None
    tag: str
    parameters: tuple[Parameter[Any, Any], ...]
    answers: tuple[Answer, ...]
    bodies: tuple[Form | File | Json, ...] = ()
    """The forms that the body may have."""
    errors: tuple[type[ApiError], ...] = ()
    """Errors beyond those that follow from the scope, the parameters and the bodies."""
    download: str | None = None
    """The people that the answer hands out as a file, such as ``recipients``; it is recorded in the audit log."""
    is_tolerant: bool = False
    """Whether unknown parameters are ignored, as the provider does, rather than refused."""

    def list_query(self) -> list[Parameter[Any, Any]]:
        """What the query may contain: query parameters, and the fields of a form, which may be sent there too."""
        declared = [parameter for parameter in self.parameters if parameter.place == "query"]
        return declared + [field for body in self.bodies if isinstance(body, Form) for field in body.fields]


class Guard(Protocol):
    """Raises ApiError for a request whose key lacks the scope."""

    async def require(self, request: Request, scope: Scope) -> None: ...


def to_handler(operation: Operation, guard: Guard) -> Handler:
    """The handler of an operation behind its checks: first the key, then the names of the parameters."""
    scope = operation.scope
    known = {parameter.name: parameter for parameter in sorted(operation.list_query(), key=attrgetter("name"))}

    @wraps(operation.handler)
    async def handle(request: Request) -> Response:
        if scope is not None:
            await guard.require(request, scope)
        if not operation.is_tolerant:
            _refuse_unknown(request, known)
        answer: Response = await operation.handler(request)
        return answer

    return handle


def to_route(operation: Operation, guard: Guard) -> Route:
    """The route of an operation."""
    return Route(operation.path, to_handler(operation, guard), methods=[operation.method])


def _refuse_unknown(request: Request, known: dict[str, Parameter[Any, Any]]) -> None:
    """A filter with a typo in its name would otherwise be ignored, and the numbers of everything would look right."""
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            near = find_near(name, known)
            meant = f"did you mean {near}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise InvalidRequestError(f"{name[:SHOWN_CHARACTERS]}: is not a parameter of this call; {meant}")
        if count > 1 and not known[name].is_repeatable:
            raise InvalidRequestError(f"{name}: was given {count} times; once is enough")

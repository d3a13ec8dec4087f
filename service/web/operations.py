"""Operations: what each route is, told once: its method, path, handler and scope, what it takes and what it answers.

A group of handlers lists its operations; ``to_route`` puts the check of the key in front of each, so that none can
forget it, and refuses parameters that the operation does not declare. ``service.web.openapi`` documents the same
operations: nothing about them is written down a second time.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from functools import wraps
from typing import Any, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.errors import ApiError, InvalidRequestError
from service.web.parameters import Parameter
from service.web.scopes import Scope

Handler = Callable[[Request], Awaitable[Response]]
SHOWN_CHARACTERS = 50
RETRY_AFTER = ("Retry-After", "Seconds after which to ask again")


class Answer(NamedTuple):
    """What an operation answers when all is well; ``shape`` is a type that msgspec knows, None for no body."""

    shape: Any
    description: str = "As asked"
    status: int = 200
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    """Names and descriptions of those that a program may want to read."""


class Form(NamedTuple):
    """A body in ``multipart/form-data``: a CSV as the part ``file``, and fields; the ``needed`` ones must be there."""

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
    """The ways in which the body may be sent."""
    errors: tuple[type[ApiError], ...] = ()
    """What may go wrong, beside what follows from the rest: a key, parameters, bodies, ids in the path."""
    is_tolerant: bool = False
    """Whether unknown parameters are ignored, as the provider does, rather than refused."""

    def list_query(self) -> list[Parameter[Any, Any]]:
        """All that may stand in the query: its parameters, and the fields of a form, since they may stand there too."""
        declared = [parameter for parameter in self.parameters if parameter.place == "query"]
        return declared + [field for body in self.bodies if isinstance(body, Form) for field in body.fields]


class Guard(Protocol):
    """Lets a request pass that may call an operation of this scope; raises ApiError for any other."""

    async def require(self, request: Request, scope: Scope) -> None: ...


def to_route(operation: Operation, guard: Guard) -> Route:
    """The route of an operation: the key is checked before anything else is looked at."""
    scope = operation.scope
    known = sorted(parameter.name for parameter in operation.list_query())

    @wraps(operation.handler)
    async def handle(request: Request) -> Response:
        if scope is not None:
            await guard.require(request, scope)
        if not operation.is_tolerant:
            _refuse_unknown(request, known)
        answer: Response = await operation.handler(request)
        return answer

    return Route(operation.path, handle, methods=[operation.method])


def _refuse_unknown(request: Request, known: list[str]) -> None:
    """A filter with a slip in its name would otherwise answer numbers of everything, and look right."""
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            near = get_close_matches(name[:SHOWN_CHARACTERS], known, 1)
            meant = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise InvalidRequestError(f"{name[:SHOWN_CHARACTERS]}: is no parameter of this call; {meant}")
        if count > 1:
            raise InvalidRequestError(f"{name}: was given {count} times; once is enough")

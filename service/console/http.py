"""The console over HTTP: each page declared once, with its method, path and the scope that it needs."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.console.api import Api, require_scope
from service.console.protection import UNSENT_COOKIE, UNSENT_SECONDS, Protection
from service.console.rendering import Renderer, link
from service.console.sign_in import SIGN_IN, SignIn, read_next
from service.console.visit import Visit
from service.errors import ApiError, InvalidRequestError, NotFoundError, UnavailableError
from service.spelling import find_near
from service.web.operations import Operation
from service.web.problems import UNREACHABLE, answer_failure, answer_unavailable
from service.web.scopes import Scope

METHODS = ("GET", "POST")
_ORIGIN = re.compile(r"^https?://[^/?#]*")


class Page(NamedTuple):
    """A page, or an action of one. ``scope`` None: open to everyone who is signed in. ``parameters`` are all that the
    address of a page may have; None: any."""

    method: str
    path: str
    handler: Callable[[Visit], Awaitable[Response]]
    scope: Scope | None = "read"
    parameters: tuple[str, ...] | None = ()


class Pages(Protocol):
    """A group of pages."""

    def pages(self) -> list[Page]: ...


class Console:
    """Routes of ``/console``. ``operations`` are those of the API."""

    def __init__(
        self,
        operations: Sequence[Operation],
        sign_in: SignIn,
        protection: Protection,
        renderer: Renderer,
        groups: Sequence[Pages],
        *,
        default_zone: str,
    ) -> None:
        self._api = Api(operations)
        self._sign_in = sign_in
        self._protection = protection
        self._renderer = renderer
        self._groups = groups
        self._zone = default_zone

    def routes(self) -> list[Route]:
        """All routes, the last of which answers unknown paths with a page."""
        return [
            *self._sign_in.routes(),
            Route("/console/static/{file:path}", self._get_file, methods=["GET"]),
            *(self._to_route(page) for group in self._groups for page in group.pages()),
            *(self._to_route(Page(method, "/console/{rest:path}", _find_nothing, None, None)) for method in METHODS),
        ]

    async def _get_file(self, request: Request) -> Response:
        return self._renderer.answer_file(request)

    def _to_route(self, page: Page) -> Route:
        async def handle(request: Request) -> Response:
            # What htmx fetches is what a page asks for on its own, which does not keep a session alive.
            is_active = page.method != "GET" or "hx-request" not in request.headers
            session = await self._sign_in.find_session(request, is_active=is_active)
            if session is None:
                answer = send_to_sign_in(request)
                if page.method != "GET":
                    self._protection.set_cookie(request, answer, "1", UNSENT_SECONDS, UNSENT_COOKIE)
                return answer
            is_unsent = self._protection.read_cookie(request, UNSENT_COOKIE) != ""
            visit = Visit(request, session, self._api, self._renderer, self._zone, is_unsent=is_unsent)
            answer = await self._answer(page, visit)
            if visit.has_reported_unsent:
                self._protection.delete_cookie(request, answer, UNSENT_COOKIE)
            return answer

        return Route(page.path, handle, methods=[page.method], name=page.path)

    async def _answer(self, page: Page, visit: Visit) -> Response:
        """The answer of a page to somebody who is signed in, errors included."""
        request, session = visit.request, visit.session
        try:
            require_scope(session, page.scope, "This page")
            if page.method != "GET":
                await self._protection.require_csrf(request, session)
            refuse_unknown(visit, page.parameters)
            return await page.handler(visit)
        except ApiError as error:
            return answer_error(visit, error)
        except UNREACHABLE as error:
            answer_unavailable(request, error)
            return answer_error(visit, UnavailableError("The database does not answer. Try again in a moment."))
        except Exception as error:
            answer_failure(request, error)
            return answer_error(visit, ApiError("The console failed to show this. The failure has been logged."))


def refuse_unknown(visit: Visit, known: tuple[str, ...] | None) -> None:
    """Raises InvalidRequestError for a parameter that the page does not have: a filter or a choice with a typo in its
    name would otherwise be ignored, and the page would show, or send, everything as if it had been applied."""
    for name in visit.request.query_params if known is not None else ():
        if name not in (known or ()):
            near = find_near(name, known or ())
            meant = f"did you mean {near}?" if near else f"it has {', '.join(known or ()) or 'none'}"
            raise InvalidRequestError(f"{name[:50]}: is not a parameter of this page; {meant}")


def send_to_sign_in(request: Request) -> Response:
    """Redirects to the sign-in page, which leads back; htmx reloads its page, which then redirects."""
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"hx-refresh": "true"})
    return RedirectResponse(link(SIGN_IN, {"next": find_page(request)}), 303)


def find_page(request: Request) -> str:
    """The page that a request is for; of a form, the one that holds it."""
    if request.method == "GET":
        return link(request.url.path, dict(request.query_params))
    return read_next(_ORIGIN.sub("", request.headers.get("referer", "")))


def answer_error(visit: Visit, error: ApiError) -> Response:
    """A page, or a notice within one, that says what went wrong and what to do."""
    template = "notice.html" if visit.is_fragment else "problem.html"
    answer = visit.render(template, error.status, error=error)
    answer.headers.update(error.headers)
    return answer


async def _find_nothing(visit: Visit) -> Response:
    raise NotFoundError("There is no such page. It may have moved.")

"""A visit: one request of a signed-in person for one page."""

from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.access.sessions import Session
from service.console.api import Api, Query, require_scope
from service.console.handles import MAX_TEXT_CHARACTERS, PARAMETER, make_handle, read_handle
from service.console.masking import mask_text
from service.console.protection import read_form
from service.console.rendering import Renderer, link
from service.errors import InvalidRequestError
from service.web.scopes import Scope, allows

ZONE_COOKIE = "outcomes_zone"


class Visit:
    """What a page needs: the request, the session, the API with its scopes, and templates."""

    def __init__(
        self,
        request: Request,
        session: Session,
        api: Api,
        renderer: Renderer,
        default_zone: str,
        *,
        is_unsent: bool = False,
    ) -> None:
        self.request = request
        self.session = session
        self.zone = read_zone(request, default_zone)
        self._api = api
        self._renderer = renderer
        self._is_unsent = is_unsent
        self.has_reported_unsent = False
        """Whether a page has said that a form was not done, because its sender was signed out."""

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the page, without empty ones, which forms send for fields left blank."""
        return {name: value for name, value in self.request.query_params.items() if value}

    @property
    def is_fragment(self) -> bool:
        """Whether htmx asks for a part of the page."""
        return "hx-request" in self.request.headers

    @property
    def handed(self) -> str | None:
        """What a form that led here was sent with; None without one, and once its handle is over."""
        return read_handle(self.session, self.request.url.path, self.request.query_params.get(PARAMETER, ""))

    def hand_on(self, text: str, query: Query | None = None) -> Response:
        """Leads on to this address as a page, with ``text`` where no address shows it. Raises InvalidRequestError for a
        text that is longer than anybody types."""
        if len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidRequestError(f"Type at most {MAX_TEXT_CHARACTERS} characters")
        path = self.request.url.path
        handle = make_handle(self.session, path, text)
        return RedirectResponse(link(path, query, **{PARAMETER: handle}), 303)

    def id(self, name: str) -> str:
        """A value in the path."""
        return str(self.request.path_params[name])

    def allows(self, scope: Scope) -> bool:
        return allows(self.session.scopes, scope)

    def mask(self, text: str) -> str:
        """A text that came with a call, such as a result, without people for those who may not see them."""
        return text if self.allows("people") else mask_text(text)

    def require(self, scope: Scope, purpose: str) -> None:
        """Raises PermissionDeniedError, which names the purpose, unless the session has the scope."""
        require_scope(self.session, scope, purpose)

    async def form(self) -> FormData:
        """The submitted form. Raises BodyTooLargeError for more than people type."""
        return await read_form(self.request)

    async def read(self, call: str, query: Query | None = None, **ids: Any) -> Any:
        """The JSON that a GET of the API answers."""
        return await self._api.read(self.request, self.session, call, query, **ids)

    async def look(self, call: str, query: Query | None = None, **ids: Any) -> Any:
        """Like ``read``, shared with other viewers for about a second."""
        return await self._api.look(self.request, self.session, call, query, **ids)

    async def send(self, call: str, content: Any = None, query: Query | None = None, **ids: Any) -> Any:
        """The JSON that a call with a JSON body answers."""
        return await self._api.send(self.request, self.session, call, content, query, **ids)

    async def call(self, call: str, **options: Any) -> Response:
        """The answer of a call as it is, such as a download."""
        return await self._api.call(self.request, self.session, call, **options)

    def render(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page, or a part of one."""
        self.has_reported_unsent = self._is_unsent and not self.is_fragment
        return self._renderer.render(
            self.request,
            template,
            status,
            session=self.session,
            zone=self.zone,
            allows=self.allows,
            mask=self.mask,
            is_unsent=self.has_reported_unsent,
            **context,
        )


def read_zone(request: Request, default: str) -> ZoneInfo:
    """The viewer's time zone: that of the browser, else ``default``."""
    name = request.cookies.get(ZONE_COOKIE, default)
    return ZoneInfo(name if name in list_zones() else default)


@cache
def list_zones() -> frozenset[str]:
    """The zones that browsers and Postgres know too: not Python's own names for files."""
    return frozenset(available_timezones())

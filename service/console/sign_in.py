"""Signing in to the console and out of it: with an API key, or at the company's OpenID provider."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote, urlencode, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.access.auth import MAX_KEY_CHARACTERS
from service.access.oidc import CALLBACK_PATH, Oidc
from service.access.oidc_transactions import LIFETIME_SECONDS
from service.access.session_ends import End
from service.access.sessions import Session, Sessions
from service.console.protection import (
    REFERRER_POLICY,
    SIGN_IN_COOKIE,
    UNSENT_COOKIE,
    Protection,
    find_address,
    read_form,
)
from service.console.throttle import Throttle
from service.errors import ApiError
from service.telemetry.context import set_actor
from service.telemetry.metrics import Metrics
from service.web.operations import Handler

logger = structlog.get_logger()

HOME = "/console"
SIGN_IN = "/console/sign-in"
SIGN_OUT = "/console/sign-out"
MAX_NEXT_CHARACTERS = 1500
REMEMBERED_SECONDS = 86_400
"""How long a browser keeps the token of a session that has expired, so that the sign-in page can say why."""
ENDS: dict[End, str] = {
    "closed": "You were signed out: an admin closed your session, or you signed out elsewhere",
    "key_gone": "You were signed out: the API key of your session was revoked or has expired",
    "provider_changed": "You were signed out: people sign in with another company account now",
    "expired": "You were signed out: a session lasts a limited time",
    "idle": "You were signed out: the console was not used for a while",
}
TEMPLATE = "sign_in.html"
_NEXT = re.compile(r"/console(?:[/?#][!-\[\]-~]*)?")
"""Printable ASCII without a backslash, which browsers take for a slash."""


class Render(Protocol):
    """Renders a template as an HTML answer."""

    def __call__(self, request: Request, template: str, status: int = 200, **context: Any) -> Response: ...


class SignIn:
    """Handlers of ``/console/sign-in…`` and ``/console/sign-out``. ``oidc`` None: only keys sign in."""

    def __init__(
        self,
        sessions: Sessions,
        oidc: Oidc | None,
        protection: Protection,
        render: Render,
        metrics: Metrics,
        *,
        throttle: Throttle | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sessions = sessions
        self._oidc = oidc
        self._protection = protection
        self._render = render
        self._metrics = metrics
        self._throttle = throttle or Throttle()
        self._now = now

    def routes(self) -> list[Route]:
        routes = [
            Route(SIGN_IN, self._answer_errors(self.show), methods=["GET"]),
            Route(SIGN_IN, self._answer_errors(self.sign_in), methods=["POST"]),
            Route(SIGN_OUT, self._answer_errors(self.sign_out), methods=["POST"]),
        ]
        if self._oidc is not None:
            routes.append(Route(f"{SIGN_IN}/oidc", self._answer_errors(self.go_to_provider), methods=["GET"]))
            routes.append(Route(CALLBACK_PATH, self._answer_errors(self.come_back), methods=["GET"]))
        return routes

    async def find_session(self, request: Request, *, is_active: bool = True) -> Session | None:
        """The session of a request, whose actor becomes the current one; None when nobody is signed in. Give
        ``is_active`` false for what a page asks on its own, such as polling."""
        token = self._protection.read_cookie(request)
        session = await self._sessions.find(token, is_active=is_active) if token else None
        if session is not None:
            set_actor(session.actor)
        return session

    async def show(self, request: Request) -> Response:
        """The form, with the reason if a session has ended; somebody who is signed in goes on."""
        next_path = read_next(request.query_params.get("next"))
        if await self.find_session(request, is_active=False) is not None:
            return _go_to(next_path)
        token = self._protection.read_cookie(request)
        reason = ENDS[await self._sessions.find_end(token)] if token else ""
        return self._show(request, next_path, reason=reason)

    async def sign_in(self, request: Request) -> Response:
        """Opens a session with a key. The answer to every wrong key is the same, and tries are slowed."""
        self._protection.require_same_origin(request)
        form = await read_form(request)
        next_path, key = read_next(form.get("next")), form.get("key")
        address = find_address(request)
        wait = self._throttle.find_wait(address)
        if wait:
            self._metrics.sign_ins.labels("key", "slowed").inc()
            answer = self._show(request, next_path, 429, f"Too many tries: wait {wait} s, then try again")
            answer.headers["retry-after"] = str(wait)
            return answer
        key = key.strip() if isinstance(key, str) else ""
        opened = await self._sessions.open_with_key(key) if 0 < len(key) <= MAX_KEY_CHARACTERS else None
        if opened is None:
            self._throttle.note_failure(address)
            self._metrics.sign_ins.labels("key", "refused").inc()
            return self._show(request, next_path, 401, "This key is not known here. It may be mistyped, or revoked")
        self._metrics.sign_ins.labels("key", "opened").inc()
        return await self._enter(request, *opened, next_path)

    async def sign_out(self, request: Request) -> Response:
        """Closes the session. A form of another site, which comes without the cookie, takes it from nobody."""
        self._protection.require_same_origin(request)
        session = await self.find_session(request)
        if session is not None:
            await self._protection.require_csrf(request, session)
            await self._sessions.close(self._protection.read_cookie(request))
        answer = _go_to(SIGN_IN)
        self._protection.delete_cookie(request, answer)
        return answer

    async def go_to_provider(self, request: Request) -> Response:
        """Begins a sign-in at the OpenID provider."""
        assert self._oidc is not None
        address, transaction = await self._oidc.begin(read_next(request.query_params.get("next")))
        answer = RedirectResponse(address, 303)
        self._protection.set_cookie(request, answer, transaction, LIFETIME_SECONDS, SIGN_IN_COOKIE)
        return answer

    async def come_back(self, request: Request) -> Response:
        """Finishes it: the provider sends the browser back to here."""
        assert self._oidc is not None
        transaction = self._protection.read_cookie(request, SIGN_IN_COOKIE)
        try:
            person = await self._oidc.finish(transaction, request.query_params)
            opened = await self._sessions.open_with_identity(
                person.issuer, person.subject, person.name, person.scopes, sign_in_digest=person.sign_in_digest
            )
        except ApiError:
            self._metrics.sign_ins.labels("oidc", "refused").inc()
            raise
        self._metrics.sign_ins.labels("oidc", "opened").inc()
        answer = await self._enter(request, *opened, person.next_path)
        self._protection.delete_cookie(request, answer, SIGN_IN_COOKIE)
        return answer

    async def _enter(self, request: Request, token: str, session: Session, next_path: str) -> Response:
        """Goes on with a session that is always new: a token that somebody else planted is worth nothing."""
        earlier = self._protection.read_cookie(request)
        if earlier:
            await self._sessions.close(earlier)
        set_actor(session.actor)
        answer = _go_to(next_path)
        seconds = int((session.expires_at - self._now()).total_seconds()) + REMEMBERED_SECONDS
        self._protection.set_cookie(request, answer, token, seconds)
        return answer

    def _show(
        self,
        request: Request,
        next_path: str,
        status: int = 200,
        error: str = "",
        reason: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        provider = f"{SIGN_IN}/oidc?{urlencode({'next': next_path})}" if self._oidc is not None else ""
        is_unsent = self._protection.read_cookie(request, UNSENT_COOKIE) != ""
        answer = self._render(
            request, TEMPLATE, status, error=error, reason=reason, next=next_path, provider=provider, session=None,
            is_unsent=is_unsent,
        )  # fmt: skip
        answer.headers.update(REFERRER_POLICY | dict(headers or {}))
        return answer

    def _answer_errors(self, handler: Handler) -> Handler:
        """The handler, with errors as the page of signing in."""

        @wraps(handler)
        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ApiError as error:
                return self._show(request, HOME, error.status, error.message, headers=error.headers)

        return handle


def read_next(text: object) -> str:
    """The page to go to after signing in: a path of the console on this host; anything else becomes its first page."""
    if not isinstance(text, str) or len(text) > MAX_NEXT_CHARACTERS or not _NEXT.fullmatch(text):
        return HOME
    path = unquote(urlsplit(text).path)
    if "\\" in path or {".", ".."} & set(path.split("/")) or path.startswith((SIGN_IN, SIGN_OUT)):
        return HOME
    return text


def _go_to(path: str) -> Response:
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"location": path})

"""Protects the console's cookies and forms: the session's cookie, and where a form may come from.

A form is accepted from the service's own pages only. Browsers say where a request comes from (``Sec-Fetch-Site``,
``Origin``), and every form of a session has a token besides. Pages need ``Referrer-Policy: same-origin``: with
``no-referrer`` browsers send ``Origin: null`` with the page's own forms.
"""

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from service.access.sessions import Session
from service.errors import BodyTooLargeError, InvalidRequestError, PermissionDeniedError

SESSION_COOKIE = "outcomes_session"
SIGN_IN_COOKIE = "outcomes_sign_in"
UNSENT_COOKIE = "outcomes_unsent"
"""Set when a form is sent without a session, until a page has said that it was not done."""
UNSENT_SECONDS = 86_400
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "x-csrf-token"
MAX_FORM_BYTES = 65_536
REFERRER_POLICY = {"referrer-policy": "same-origin"}
_FORM = "application/x-www-form-urlencoded"


class Protection:
    """Reads and sets cookies, and refuses forms from elsewhere. ``public_url`` is where people reach the service; ""
    when that is not known."""

    def __init__(self, public_url: str = "") -> None:
        public = urlsplit(public_url)
        self._host = public.netloc.lower()
        self._is_https = public.scheme == "https"

    def is_https(self, request: Request) -> bool:
        """Whether the browser uses TLS: as OUTCOMES_PUBLIC_URL says, or the proxy in front. Somebody who invents the
        proxy's header only gets a cookie that their own browser does not send."""
        forwarded = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return self._is_https or request.url.scheme == "https" or forwarded == "https"

    def read_cookie(self, request: Request, name: str = SESSION_COOKIE) -> str:
        """The cookie's value, or "". Behind TLS only the one with the prefix ``__Host-`` counts, which no other host
        and no page without TLS can set."""
        return request.cookies.get(self._name(request, name), "")

    def set_cookie(
        self, request: Request, response: Response, value: str, max_age_seconds: int, name: str = SESSION_COOKIE
    ) -> None:
        """Sets a cookie that scripts cannot read. ``Lax``, not ``Strict``: the way back from an OpenID provider, and a
        link in a message, would otherwise arrive signed out."""
        response.set_cookie(
            self._name(request, name), value, max_age=max_age_seconds, path="/", secure=self.is_https(request),
            httponly=True, samesite="lax",
        )  # fmt: skip

    def delete_cookie(self, request: Request, response: Response, name: str = SESSION_COOKIE) -> None:
        self.set_cookie(request, response, "", 0, name)

    def require_same_origin(self, request: Request) -> None:
        """Raises PermissionDeniedError for a request that another site's page makes. A client that says nothing about
        where it comes from is no browser, and has no cookies that another site could abuse."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if origin == "null" and site in {"same-origin", "none"}:
            origin = None
        if site not in {None, "same-origin", "none"} or (origin is not None and not self._is_own(request, origin)):
            raise PermissionDeniedError("This form came from another site: open the page again and send it from there")

    async def require_csrf(self, request: Request, session: Session) -> None:
        """Raises PermissionDeniedError unless the request is the session's own: its token is in the header
        ``X-CSRF-Token``, or in the field ``csrf_token`` of a form that is not multipart."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        is_foreign = origin not in {None, "null"} and not self._is_own(request, str(origin))
        given = request.headers.get(CSRF_HEADER)
        if given is None and is_form(request):
            field = (await read_form(request)).get(CSRF_FIELD)
            given = field if isinstance(field, str) else None
        if (
            is_foreign
            or site not in {None, "same-origin", "none"}
            or given is None
            or not hmac.compare_digest(given.encode(), session.csrf_token.encode())
        ):
            raise PermissionDeniedError("This form is not of your present session: open the page again and repeat it")

    def _is_own(self, request: Request, origin: str) -> bool:
        """Whether an Origin is this service: the host that was asked, or that of OUTCOMES_PUBLIC_URL."""
        parts = urlsplit(origin)
        own = {request.headers.get("host", "").lower(), self._host} - {""}
        return parts.scheme in {"http", "https"} and parts.netloc.lower() in own

    def _name(self, request: Request, name: str) -> str:
        return f"__Host-{name}" if self.is_https(request) else name


def is_form(request: Request) -> bool:
    """Whether the body is a form that is not multipart."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


async def read_form(request: Request) -> FormData:
    """A form that is not multipart; the request keeps it, so it may be read again. Raises InvalidRequestError for
    another body, BodyTooLargeError for a large one."""
    length = request.headers.get("content-length", "")
    if not is_form(request) or not length.isdecimal():
        raise InvalidRequestError(f"Send a form as {_FORM}, with its Content-Length")
    if int(length) > MAX_FORM_BYTES:
        raise BodyTooLargeError(f"The form is over {MAX_FORM_BYTES} bytes")
    return await request.form()


def find_address(request: Request) -> str:
    """The client's address, for limits: a network of 64 bits for IPv6. From a proxy in a private network, it is the
    last one in ``X-Forwarded-For``; somebody there who invents one evades the limit for each address, but not the one
    for all."""
    peer = request.client.host if request.client else ""
    address = _parse(peer)
    if address is not None and address.is_private:
        forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        address = _parse(forwarded) or address
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address) if address is not None else peer


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address

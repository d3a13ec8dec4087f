"""Headers that keep a browser from making more of an answer than it is, and anybody from keeping what it says of
people.

They are added in one place, to every answer of the API that does not say otherwise itself: an answer with an ETag may
be kept and asked about, the page at ``/docs`` has a policy of its own. Webhooks pass by; their answers say nothing.
"""

from starlette.types import Message, Send

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_HEADERS = (
    NO_SNIFFING,
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


def make_safe(send: Send) -> Send:
    """``send``, with these headers on the answer."""

    async def send_safe(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            given = {name for name, _ in headers}
            message = {**message, "headers": [*headers, *(header for header in _HEADERS if header[0] not in given)]}
        await send(message)

    return send_safe

"""Request ids: what one request is called in its answer, in every log line written for it, and in the audit log.

An id that comes with a request is kept only where it is plain: it is written down in places that no person and no
secret may reach. So it is short, of few characters, and is no word and nothing that could be a phone number.
"""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar

HEADER = b"x-request-id"
_PLAIN = re.compile(r"(?=[^0-9]*[0-9])(?=.*[A-Za-z]|(?:[^0-9]*[0-9]){16})[A-Za-z0-9][A-Za-z0-9._:-]{5,127}")
# Version, trace id, parent id and flags (W3C Trace Context, section 3.2.2); a later version may have more behind them.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def is_plain(text: str) -> bool:
    """Whether an id from outside may stand in a log: 6 to 128 letters, digits and . _ : - with a digit among them, and
    with letters too, or at least 16 digits, since a phone number has at most 15."""
    return _PLAIN.fullmatch(text) is not None


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The trace id of ``traceparent``, else ``X-Request-Id``, where they are well-formed; else a new one."""
    given = None
    for name, value in headers:
        if name == b"traceparent":
            if (match := _match_traceparent(value)) is not None:
                return match[2]
        elif name == HEADER:
            text = value.decode("latin-1").strip()
            given = text if is_plain(text) else None
    return given or f"{random.getrandbits(128):032x}"  # it need be unique, not secret


def find_traceparent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The whole of ``traceparent``, where it is well-formed."""
    for name, value in headers:
        if name == b"traceparent" and (match := _match_traceparent(value)) is not None:
            return match[0]
    return None


def _match_traceparent(value: bytes) -> re.Match[str] | None:
    match = _TRACEPARENT.fullmatch(value.decode("latin-1").strip())
    return None if match is None or (match[1] == "00" and match[3]) else match


def current_request_id() -> str | None:
    """The request that the present task works for; None when it is none."""
    return _request_id.get()


def set_request_id(request_id: str) -> None:
    """Says which request the present task, and those that it begins, work for from now on."""
    _request_id.set(request_id)

"""The context of a request: its id and its actor. A task keeps both, and passes them on to the tasks that it starts.

A caller's id is kept only if it is plain, because it is written to logs, which must contain no personal data and no
secrets. A plain id is short, uses few kinds of characters, is not a word, and cannot contain a phone number: seven or
more digits, with or without single separators. UUIDs (RFC 9562) and 128 bits in hexadecimal are exempt, because they
may contain that many digits by chance.
"""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

HEADER = b"x-request-id"
_PLAIN = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9][A-Za-z0-9._:-]{5,127}")
_PHONE = re.compile(r"[0-9](?:[._:-]?[0-9]){6}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_PADDED_PHONE = re.compile(r"[0-9a-fA-F]{16}0[0-9]{15}")
# Version, trace id, parent id and flags (W3C Trace Context, section 3.2.2); a later version may append more.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def is_plain(text: str) -> bool:
    """Whether an id from outside may appear in a log: a UUID, 32 hexadecimal digits, or 6 to 128 letters, digits and
    . _ : - with at least one digit and never seven in a row."""
    if _HEX.fullmatch(text):
        return not text.isdecimal() and _PADDED_PHONE.fullmatch(text) is None
    return _UUID.fullmatch(text) is not None or (_PLAIN.fullmatch(text) is not None and _PHONE.search(text) is None)


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The trace id of ``traceparent``, else ``X-Request-Id``, if well-formed; else a new id."""
    given = None
    for name, value in headers:
        if name == b"traceparent":
            if (match := _match_traceparent(value)) is not None:
                return match[2]
        elif name == HEADER:
            text = value.decode("latin-1").strip()
            given = text if is_plain(text) else None
    return given or make_request_id()


def make_request_id() -> str:
    """A new id. One in 20,000 random ones looks like a padded phone number, and logs would withhold it."""
    while not is_plain(made := f"{random.getrandbits(128):032x}"):  # it must be unique, not secret
        pass
    return made


def find_traceparent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The whole ``traceparent``, if it is well-formed."""
    for name, value in headers:
        if name == b"traceparent" and (match := _match_traceparent(value)) is not None:
            return match[0]
    return None


def _match_traceparent(value: bytes) -> re.Match[str] | None:
    match = _TRACEPARENT.fullmatch(value.decode("latin-1").strip())
    return None if match is None or (match[1] == "00" and match[3]) or not is_plain(match[2]) else match


def current_request_id() -> str | None:
    """The id of the request that the current task works for; None without one."""
    return _request_id.get()


def set_request_id(request_id: str) -> None:
    """Sets the request that the current task, and those that it starts, work for from now on."""
    _request_id.set(request_id)


class Actor(NamedTuple):
    """``name`` as in the audit log; ``key_id`` of a stored key."""

    name: str
    key_id: int | None = None


SERVICE = Actor("service")
"""The service acting on its own."""
COMMAND_LINE = Actor("command line")
SETTING = Actor("setting")
"""The key of OUTCOMES_API_KEY."""

_actor: ContextVar[Actor] = ContextVar("actor", default=SERVICE)


def current_actor() -> Actor:
    """Who the current task acts for."""
    return _actor.get()


def set_actor(actor: Actor) -> None:
    """Sets who the current task, and those that it starts, act for from now on."""
    _actor.set(actor)

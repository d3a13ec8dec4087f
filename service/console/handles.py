"""Handles: what a form was sent with, carried on to the page that its answer leads to.

A form is answered by leading on to a page (303), so that Back and Reload never ask to send it again. What may stand in
no address, such as the phone of a search, goes along encrypted, with a key that follows from the session. So a handle
is worth nothing in another session, after this one, or after ten minutes, and nothing is stored.
"""

import hmac
import time
from collections.abc import Callable

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from service.access.sessions import Session

PARAMETER = "handle"
LIFETIME_SECONDS = 600
MAX_TEXT_CHARACTERS = 500
MAX_HANDLE_CHARACTERS = 4000
_HEADER = {"alg": "dir", "enc": "A256GCM"}


class _Content(msgspec.Struct, array_like=True):
    path: str
    text: str
    ends_at: float


def make_handle(session: Session, path: str, text: str, now: Callable[[], float] = time.time) -> str:
    """A handle that gives ``text`` to the page ``path`` of this session."""
    content = msgspec.json.encode(_Content(path, text, now() + LIFETIME_SECONDS))
    return jwe.encrypt_compact(_HEADER, content, _derive_key(session))


def read_handle(session: Session, path: str, handle: str, now: Callable[[], float] = time.time) -> str | None:
    """The text of a handle; None when it is not of this session and page, or over."""
    if not handle or len(handle) > MAX_HANDLE_CHARACTERS:
        return None
    try:
        plain = jwe.decrypt_compact(handle, _derive_key(session), algorithms=list(_HEADER.values())).plaintext
        content = msgspec.json.decode(plain or b"", type=_Content)
    except (JoseError, msgspec.MsgspecError, ValueError):
        return None
    return content.text if content.path == path and now() < content.ends_at else None


def _derive_key(session: Session) -> OctKey:
    return OctKey.import_key(hmac.digest(session.csrf_token.encode(), b"outcomes: handles of the console", "sha256"))

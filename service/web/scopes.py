"""Scopes: what a key is for. ``admin`` includes the others, which are independent of each other: a dashboard's key
cannot upload, and an uploader's key cannot read recipients."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:  # the commands that name scopes need no web framework
    from starlette.requests import Request

Scope: TypeAlias = Literal["read", "upload", "feed", "people", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
MEANINGS: dict[Scope, str] = {
    "read": "reads figures, and by the API also recipients, calls and exports with phones; the console masks them",
    "upload": "starts calls, sets goals and callbacks, keeps the list of people who must not be called, and downloads "
    "the rows that its own uploads left out",
    "feed": "reads the changes one by one, with phones, parameters and results",
    "people": "sees phones and parameters in the console, looks people up across batches, reads the bodies of events, "
    "downloads the rows that any upload left out if it has “upload” too, and marks callbacks as done",
    "admin": "does all of these, and keys, sessions, erasure, quarantine and the audit log",
}
"""What each allows, for those who give it away."""


def grant(request: "Request", scopes: Collection[str]) -> None:
    """Notes the scopes of the key, or of the session, that a request is made with."""
    request.scope["granted_scopes"] = tuple(scopes)


def granted_scopes(request: "Request") -> tuple[str, ...]:
    """The scopes that ``grant`` noted."""
    granted: tuple[str, ...] = request.scope.get("granted_scopes", ())
    return granted


def allows(scopes: Collection[str], needed: Scope) -> bool:
    """Whether a key with ``scopes`` may do what needs ``needed``."""
    return needed in scopes or "admin" in scopes

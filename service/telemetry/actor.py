"""Who acts: kept beside the task that acts, as a request id would be, since everything that is done may have to tell.

A task begun by another takes its actor along, so work that outlives its request still knows who asked for it.
"""

from contextvars import ContextVar
from typing import NamedTuple


class Actor(NamedTuple):
    """``name`` as the audit log tells it; ``key_id`` of a stored key."""

    name: str
    key_id: int | None = None


SERVICE = Actor("service")
"""What happens by itself."""
COMMAND_LINE = Actor("command line")
SETTING = Actor("setting")
"""The key of OUTCOMES_API_KEY."""

_actor: ContextVar[Actor] = ContextVar("actor", default=SERVICE)


def current_actor() -> Actor:
    """Who the present task acts for."""
    return _actor.get()


def set_actor(actor: Actor) -> None:
    """Says who the present task, and those that it begins, act for from now on."""
    _actor.set(actor)

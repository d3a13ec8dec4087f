"""The provider, emulated: FormantAI has no sandbox of its own, so this is one to develop, test and demonstrate against.

It answers the provider's API, plays the calls of uploaded batches on a virtual clock, sends signed webhooks by the
contract's rules, does wrong on purpose where it is asked to, and tells afterwards what really happened. Everything is
in memory. Of this project it imports ``formant.signature`` only, which keeps it an independent witness.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.sandbox.clock import RunningClock, SteppedClock
    from service.sandbox.contacts import sample_contacts
    from service.sandbox.faults import Faults
    from service.sandbox.options import OptionError, SandboxOptions, Target
    from service.sandbox.sandbox import Sandbox
    from service.sandbox.serving import RunningSandbox, serve_sandbox

__all__ = [
    "Faults",
    "OptionError",
    "RunningClock",
    "RunningSandbox",
    "Sandbox",
    "SandboxOptions",
    "SteppedClock",
    "Target",
    "sample_contacts",
    "serve_sandbox",
]

_HOMES = {
    "Faults": "faults",
    "OptionError": "options",
    "RunningClock": "clock",
    "RunningSandbox": "serving",
    "Sandbox": "sandbox",
    "SandboxOptions": "options",
    "SteppedClock": "clock",
    "Target": "options",
    "sample_contacts": "contacts",
    "serve_sandbox": "serving",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and only that: the help of the command needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

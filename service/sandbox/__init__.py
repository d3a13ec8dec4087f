"""The provider, emulated, to develop, test and demonstrate against: FormantAI has no sandbox of its own.

It answers the provider's API, plays the calls of uploaded batches on a virtual clock, sends signed webhooks by the
contract's rules, makes faults on request, and reports what really happened. Everything is in memory. It imports only
``formant.signature`` of this project, which keeps it an independent witness.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.sandbox.clock import RunningClock, SteppedClock
    from service.sandbox.contacts import sample_contacts
    from service.sandbox.faults import Faults
    from service.sandbox.options import SandboxOptions, WebhookTarget
    from service.sandbox.sandbox import Sandbox
    from service.sandbox.serving import RunningSandbox, serve_sandbox

__all__ = [
    "Faults", "RunningClock", "RunningSandbox", "Sandbox", "SandboxOptions", "SteppedClock", "WebhookTarget",
    "sample_contacts", "serve_sandbox",
]  # fmt: skip

_MODULES = {
    "Faults": "faults", "RunningClock": "clock", "RunningSandbox": "serving", "Sandbox": "sandbox",
    "SandboxOptions": "options", "SteppedClock": "clock", "WebhookTarget": "options", "sample_contacts": "contacts",
    "serve_sandbox": "serving",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports a module on first use: the help of the command needs none of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

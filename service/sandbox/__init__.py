"""The provider, emulated: FormantAI has no sandbox of its own, so this is one to develop, test and demonstrate against.

It answers the provider's API, plays the calls of uploaded batches on a virtual clock, sends signed webhooks by the
contract's rules, does wrong on purpose where it is asked to, and tells afterwards what really happened. Everything is
in memory. Of this project it imports ``formant.signature`` only, which keeps it an independent witness.
"""

from service.sandbox.clock import RunningClock, SteppedClock
from service.sandbox.errors import OptionError
from service.sandbox.faults import Faults
from service.sandbox.options import SandboxOptions, Target
from service.sandbox.sample import sample_contacts
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

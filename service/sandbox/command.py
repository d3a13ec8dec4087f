"""The command ``outcomes sandbox``: what it takes, and what its help says. It is done in ``service.sandbox.run``."""

from typing import Any

import click

from service.sandbox.flags import FLAGS, SandboxCommand

_EXAMPLES = """\b
Try it:
  outcomes sandbox --print-sample 200 > contacts.csv
  outcomes sandbox --webhook http://127.0.0.1:8080/webhooks/formant --secret s3cret
  curl http://127.0.0.1:8090/v1/batch-call -H "Authorization: Bearer sandbox-key" \\
       -F agent_id=123 -F "name=March Follow Ups" -F file=@contacts.csv
  curl http://127.0.0.1:8090/sandbox        what else it can tell you
"""


@click.command("sandbox", cls=SandboxCommand, params=list(FLAGS), epilog=_EXAMPLES, short_help="Emulate the provider.")
def sandbox(**flags: Any) -> None:
    """Emulates the provider: takes batches, plays their calls on a fast clock, sends signed webhooks.

    Nothing is dialled, no database is needed, and everything is forgotten at the end. It answers the provider's API
    (batch calls, conversations), keeps its rate limit and its rule for sending webhooks again, and does wrong on
    purpose where it is told to. What really happened can be asked for under /sandbox.

    \b
    The same --seed gives the same outcomes, conversation ids and event ids for the nth
    batch of a run. Add --first-batch-id and --start for the same batch ids and times.
    Without --seed nothing ever collides with an earlier run.
    """
    from service.sandbox.run import run_sandbox

    run_sandbox(flags)

"""The command line, ``outcomes``: its commands are in ``service.commands``, or in the package of their program."""

import asyncio
import sys

import click
import structlog

from service.commands.batches import batches
from service.commands.bi import bi
from service.commands.demo import demo
from service.commands.doctor import doctor
from service.commands.erase import erase
from service.commands.erasures import erasures
from service.commands.feed import restart_feed
from service.commands.keys import keys
from service.commands.reconcile import reconcile
from service.commands.recount import reattribute, rebuild, verify
from service.commands.repair import repair
from service.commands.replay import replay
from service.commands.schema import grant_service, migrate
from service.commands.serve import serve
from service.crm.command import crm_sync
from service.errors import OutcomesError
from service.sandbox.command import sandbox
from service.telemetry.logs import configure_logs

logger = structlog.get_logger()

COMMANDS: tuple[click.Command, ...] = (
    serve, migrate, grant_service, doctor, demo, sandbox, reconcile, verify, rebuild, repair, reattribute, replay,
    batches, keys, erase, erasures, restart_feed, bi, crm_sync,
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def outcomes() -> None:
    """Exact outcomes of batch calls, from a voice-AI provider's webhooks.

    Settings come from the environment: see docs/operate/settings.md. Without OUTCOMES_DATABASE_URL an embedded
    Postgres runs in OUTCOMES_DATA_DIR (default .data). To see everything at work, without an account: outcomes demo
    """


for _command in COMMANDS:
    outcomes.add_command(_command)


def main() -> None:
    """The entry point: errors of ours are printed as one sentence, with 2 as the status. Any other is logged without
    its message, with 1 as the status: a database's message may quote the row that it refuses."""
    try:
        outcomes.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except OutcomesError as error:
        click.echo(f"outcomes: {error}", err=True)
        sys.exit(2)
    except asyncio.CancelledError:
        sys.exit(1)
    except Exception:
        configure_logs("error")  # it may have failed before it did so itself
        logger.error("command_failed", exc_info=True)
        sys.exit(1)

"""The command line, ``outcomes``: what each command takes, and what its help says.

The work is in ``service.commands``, and in the packages of the two programs that ship along. A command's module is
imported when the command is called, so that help needs none of them.
"""

import sys
from pathlib import Path
from typing import Any

import click

from service.crm.command import crm_sync
from service.sandbox.command import sandbox
from service.web.scopes import SCOPES


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name="formant-outcomes", message="outcomes %(version)s")
def outcomes() -> None:
    """Exact outcomes of batch calls, from a voice-AI provider's webhooks.

    Settings come from the environment: see docs/operate/settings.md. Without OUTCOMES_DATABASE_URL an embedded
    Postgres runs in OUTCOMES_DATA_DIR (default .data). To see everything at work, without an account: outcomes demo
    """


outcomes.add_command(crm_sync)
outcomes.add_command(sandbox)


@outcomes.command(short_help="Run the service until SIGTERM.")
def serve() -> None:
    """Run the service until SIGTERM, then drain and exit with 0."""
    from service.commands.serve import serve as run

    run()


@outcomes.command(short_help="Bring the database's schema up to date.")
def migrate() -> None:
    """Bring the database's schema up to this version (serve does so too, unless told not to)."""
    from service.commands.schema import migrate as run

    run()


@outcomes.command("grant-service", short_help="Let a database role run the service.")
@click.argument("role")
def grant_service(role: str) -> None:
    """Give a database role what running the service takes: no DDL, no TRUNCATE, no change of the audit log.

    Run it as the owner that migrates; the service then runs as ROLE with OUTCOMES_MIGRATE_ON_START=0.
    """
    from service.commands.schema import grant_service as run

    run(role)


@outcomes.command(short_help="Check everything, and say what to do.")
@click.option("--url", help="Where the running service answers.  [default: from OUTCOMES_HOST and OUTCOMES_PORT]")
@click.option("--no-service", is_flag=True, help="Leave the running service out, as before a first start.")
@click.option("--webhook-url", help="The public address that the provider sends to: https://…/webhooks/formant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(url: str | None, no_service: bool, webhook_url: str | None, as_json: bool) -> None:
    """Check configuration, database, clocks, provider, webhooks and the running service, and say what to do.

    One line for each finding: ok, unchecked, warning or problem. Ends with 1 when there is a problem, else with 0.
    Changes nothing, and tells no secret and no person. Needs the settings that the service has: run it where it runs.
    """
    from service.commands.doctor import doctor as run

    run(url, is_service_left_out=no_service, webhook_url=webhook_url, as_json=as_json)


@outcomes.command(short_help="See it at work, without an account.")
@click.option("--recipients", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Batch size.")
@click.option("--seed", type=int, help="The same seed gives the same calls.  [default: a new one]")
@click.option("--speed", default=480.0, show_default=True, type=click.FloatRange(1), help="Times real time.")
@click.option("--drop", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share never sent.")
@click.option("--duplicate", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Share sent twice.")
@click.option(
    "--reorder", "reorder_seconds", default=300.0, show_default=True, type=click.FloatRange(0),
    help="Shuffled within so many seconds.",
)  # fmt: skip
@click.option(
    "--bad-signature", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share with a forged copy."
)
@click.option(
    "--sandbox-port", default=0, show_default="a free one", type=click.IntRange(0, 65535), help="The sandbox's port."
)
@click.option("--exit", "is_exit", is_flag=True, help="End when the batch has; status 0 only if the figures agree.")
def demo(**options: Any) -> None:
    """See it at work: Postgres, the provider's sandbox and the service, and one batch from CSV to final figures.

    Needs no account and no settings, and may be run again at any time. Afterwards it keeps serving until Ctrl-C, so
    that you can look around; commands that are run beside it, in the same folder, use its settings.
    """
    from service.commands.demo import DemoOptions
    from service.commands.demo import demo as run

    run(DemoOptions(**options))


@outcomes.command(short_help="Compare a batch with the provider's figures now.")
@click.argument("batch_id", type=int)
def reconcile(batch_id: int) -> None:
    """Compare a batch with the provider's figures now, without grace, and heal what is missing.

    Ends with 1 when the figures differ afterwards.
    """
    from service.commands.batches import reconcile as run

    run(batch_id)


_BATCH = click.option("--batch", "batch_id", type=int, help="The provider's id of one batch; all without it.")


@outcomes.command(short_help="Recount everything from the stored events.")
@_BATCH
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(batch_id: int | None, as_json: bool) -> None:
    """Recount every outcome and counter from the facts, and hold the facts against the raw events still kept.

    The bodies are checked against their digests and the provider's signatures; name retired secrets too for the run
    (FORMANT_WEBHOOK_SECRET=new,old). Events without a reference are placed again on paper; with --batch, those that are
    in the batch or belong there. Changes nothing, and may run beside webhooks. Ends with 1 when something differs;
    events that are about to be placed are listed, and are no difference.
    """
    from service.commands.events import verify as run

    run(batch_id, as_json=as_json)


@outcomes.command(short_help="Make outcomes and counters again from the facts.")
@_BATCH
def rebuild(batch_id: int | None) -> None:
    """Make outcomes and counters again from the facts, in small steps, while webhooks keep coming."""
    from service.commands.events import rebuild as run

    run(batch_id)


@outcomes.command(short_help="Decide again where events without a reference go.")
def reattribute() -> None:
    """Decide again where events without a reference belong, and move those that are elsewhere.

    Run it once after an upgrade from a version that kept no evidence on them; otherwise the service does this by
    itself. It works in small steps while webhooks keep coming, and may be run again. `outcomes verify` lists
    beforehand what it would move.
    """
    from service.commands.events import reattribute as run

    run()


@outcomes.command(short_help="Correct what older versions stored as it came.")
def repair() -> None:
    """Remove times and numbers that cannot be true from what older versions stored, beside webhooks.

    The service does this itself when it starts; run this after a restore, before `outcomes verify`. It can be
    stopped at any time and continues where it was.
    """
    from service.commands.events import repair as run

    run()


@outcomes.command(short_help="Process again what waits in quarantine.")
@click.argument("quarantine_id", type=int, required=False)
def replay(quarantine_id: int | None) -> None:
    """Send what waits in quarantine on its way again: one body by its id, or all of them.

    Ends with 1 when something still cannot be used; it stays in quarantine.
    """
    from service.commands.events import replay as run

    run(quarantine_id)


@outcomes.group(short_help="Batches and their uploads.")
def batches() -> None:
    """Batches and their uploads."""


@batches.command(short_help="Say what became of an unknown upload.")
@click.argument("upload_id", type=int)
@click.option("--batch-id", type=int, help="The provider's batch that the upload became.")
@click.option("--accept-difference", is_flag=True, help="It is, although the provider counts other recipients.")
@click.option("--not-sent", is_flag=True, help="The provider has never taken it: nobody is dialled.")
@click.option("--not-these", metavar="N,N", help="It is none of these batches: all that could be it.")
@click.option("--accept-unreadable", is_flag=True, help="Nor is it an entry of the list that cannot be read.")
def resolve(
    upload_id: int,
    batch_id: int | None,
    *,
    accept_difference: bool,
    not_sent: bool,
    not_these: str | None,
    accept_unreadable: bool,
) -> None:
    """Say what became of an upload that is unknown (GET /v1/uploads?state=unknown).

    The evidence is checked first: the provider's list, and webhooks that have come in.
    """
    if (batch_id is None) == (not not_sent):
        raise click.UsageError("Give either --batch-id N or --not-sent")
    if accept_difference and batch_id is None:
        raise click.UsageError("--accept-difference goes with --batch-id")
    if not_these is not None and not not_sent:
        raise click.UsageError("--not-these goes with --not-sent")
    if accept_unreadable and not not_sent:
        raise click.UsageError("--accept-unreadable goes with --not-sent")
    denied = _read_ids(not_these) if not_these is not None else None
    from service.commands.batches import resolve as run

    run(
        upload_id,
        batch_id,
        accept_difference=accept_difference,
        not_these=denied,
        accept_unreadable=accept_unreadable,
    )


def _read_ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in parts):
        raise click.UsageError("--not-these takes numbers of batches, separated by commas")
    return [int(part) for part in parts]


@outcomes.group(short_help="Keys for the HTTP API.")
def keys() -> None:
    """Keys for the HTTP API: each with its scopes, shown once, stored as a digest.

    read sees figures and recipients, upload also has people called, feed follows the changes; admin may do all of it,
    and erase. Changes hold within seconds, on every replica.
    """


@keys.command("create", short_help="Make a key and print it, this once.")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="May be repeated.  [default: read]")
@click.option("--expires-in", help="Such as 12h, 90d or 8w; without it the key does not expire.")
def create_key(name: str, scopes: tuple[str, ...], expires_in: str | None) -> None:
    """Make a key and print it, this once: nobody can show it again."""
    from service.commands.keys import create as run

    run(name, scopes or ("read",), expires_in)


@keys.command("list", short_help="List the keys, and when each was last used.")
def list_keys() -> None:
    """List the keys: how each begins, what it is for, and when it was last used."""
    from service.commands.keys import list_keys as run

    run()


@keys.command("revoke", short_help="Revoke a key by its name or id.")
@click.argument("name_or_id")
def revoke_key(name_or_id: str) -> None:
    """Revoke a key by its name or id: it is refused everywhere within seconds."""
    from service.commands.keys import revoke as run

    run(name_or_id)


@outcomes.command(short_help="Erase a person by phone.")
@click.argument("phone")
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
def erase(phone: str, dry_run: bool) -> None:
    """Erase a person: phone, parameters, what was said, raw events, and rows of files that are held.

    What became of their calls stays counted. Webhooks that come later bring nobody back. Ends with 1 while something
    is on its way in that names them still; a running service then goes on by itself.
    """
    from service.commands.erasures import erase as run

    run(phone, is_dry=dry_run)


@outcomes.group(short_help="The list of who was erased.")
def erasures() -> None:
    """Who was erased, as keyed hashes: a list to keep, and to erase by again after a restore."""


@erasures.command("list", short_help="Print the list of who was erased.")
def list_erasures() -> None:
    """Print the list of who was erased. Keep a copy outside the database, as recent as your promises to people are."""
    from service.commands.erasures import list_erasures as run

    run()


@erasures.command("repeat", short_help="Erase again whom a backup has brought back.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def repeat_erasures(file: Path) -> None:
    """Erase again whom a restored backup has brought back, by a list that was made after it.

    Every phone is hashed and compared, so it may take minutes; run it before the service.
    """
    from service.commands.erasures import repeat as run

    run(file)


@outcomes.command("restart-feed", short_help="Say that commits were lost.")
def restart_feed() -> None:
    """Say that commits were lost: the database was restored, or a standby took over that lacked some.

    Positions go on far beyond all that were ever read. Readers who had read what is gone are refused (409) until they
    read from 0, and named consumers until they are reset. Run it as the owner of the schema, before the service if you
    can; again is harmless.
    """
    from service.commands.schema import restart_feed as run

    run()


@outcomes.group(short_help="The roles that BI tools read as.")
def bi() -> None:
    """The roles that BI tools read as, and what they are shown."""


@bi.command(short_help="Make or repair a role that only reads bi.")
@click.option("--full", is_flag=True, help="bi_reader_full, which sees phones and call parameters; else bi_reader.")
@click.option("--connections", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most, at a time.")
@click.option(
    "--statement-seconds", default=60, show_default=True, type=click.IntRange(1, 86_400), help="Longest query."
)
@click.option("--print", "is_print", is_flag=True, help="Only print what an administrator would have to run.")
def role(full: bool, connections: int, statement_seconds: int, is_print: bool) -> None:
    """Make or repair a role that reads the schema bi and nothing else.

    Its password comes from OUTCOMES_BI_PASSWORD; without, the present one stays. Safe to run again.
    """
    from service.commands.bi import role as run

    run(is_full=full, connections=connections, statement_seconds=statement_seconds, is_print=is_print)


_NAMES = click.argument("names", nargs=-1)
_RESULT = click.option("--result", "is_result", is_flag=True, help="The names are of results, not of call parameters.")
_AGENT = click.option("--agent", "agent_id", type=click.IntRange(0), help="All results of an agent, instead of names.")


@bi.command(short_help="Show call parameters or results to bi_reader.")
@_NAMES
@_RESULT
@_AGENT
def show(names: tuple[str, ...], is_result: bool, agent_id: int | None) -> None:
    """Show call parameters (or results) to bi_reader: those that say nothing about a single person.

    With --result --agent ID the results of that agent are shown as those of any other.
    """
    _set_shown(names, is_result, agent_id, is_shown=True)


@bi.command(short_help="Hide call parameters or results from bi_reader.")
@_NAMES
@_RESULT
@_AGENT
def hide(names: tuple[str, ...], is_result: bool, agent_id: int | None) -> None:
    """Hide call parameters (or results) from bi_reader.

    Results take patterns: '*name*' hides customer_name too, in any case, unless it is shown by name. With --result
    --agent ID all results of that agent are hidden that are not shown by name.
    """
    _set_shown(names, is_result, agent_id, is_shown=False)


def _set_shown(names: tuple[str, ...], is_result: bool, agent_id: int | None, *, is_shown: bool) -> None:
    if bool(names) == (agent_id is not None):
        raise click.UsageError("Give either names or --agent")
    if agent_id is not None and not is_result:
        raise click.UsageError("--agent goes with --result: call parameters are hidden unless they are shown")
    from service.commands.bi import set_shown as run

    run(names, "result" if is_result else "parameter", agent_id, is_shown=is_shown)


def main() -> None:
    """The entry point. What fails is told in one line: with 2 as the status where the user can do something about it,
    with 1 where the fault is ours."""
    try:
        outcomes.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)  # Ctrl-C, as a shell tells it
    except Exception as error:
        from service.commands.failures import report

        sys.exit(report(error))

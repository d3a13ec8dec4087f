"""The command line, ``outcomes``: the arguments, options and help of each command.

The commands are in ``service.commands``, and in the packages of the two programs that ship along. Each is imported when
it is called, so that help stays fast.
"""

import sys
from pathlib import Path
from typing import Any

import click

from service.crm.command import crm_sync
from service.sandbox.command import sandbox
from service.web.scopes import SCOPES


class _Id(click.types.IntParamType):
    """An id, as large as the database takes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not 0 <= number < 2**63:
            self.fail(f"{number} is not an id.", param, ctx)
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name="formant-outcomes", message="outcomes %(version)s")
@click.option(
    "--env-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read settings from this file of systemd's; the environment overrides it.",
)  # fmt: skip
def outcomes(env_file: Path | None) -> None:
    """Exact outcomes of batch calls, from a voice-AI provider's webhooks.

    Settings come from the environment: see docs/operate/settings.md. Commands other than serve also find those of the
    installed service, in /etc/outcomes/outcomes.env. Without OUTCOMES_DATABASE_URL an embedded Postgres runs in
    OUTCOMES_DATA_DIR (default .data). To see everything at work, without an account: outcomes demo
    """
    if env_file is not None:
        from service.environment import use_env_file

        use_env_file(env_file)


outcomes.add_command(crm_sync)
outcomes.add_command(sandbox)


@outcomes.command(short_help="Run the service until SIGTERM.")
@click.option(
    "--spill",
    type=click.Choice(["embedded"]),
    help="Keep webhooks while Postgres is away, in a stream in OUTCOMES_DATA_DIR.",
)
def serve(spill: str | None) -> None:
    """Run the service until SIGTERM, then drain and exit with 0."""
    from service.commands import serve

    serve.serve(has_embedded_stream=spill == "embedded")


@outcomes.command(short_help="Bring the database's schema up to date.")
def migrate() -> None:
    """Bring the database's schema up to this version (serve does so too, unless OUTCOMES_MIGRATE_ON_START=0)."""
    from service.commands import migrate

    migrate.migrate()


@outcomes.command("grant-service", short_help="Let a database role run the service.")
@click.argument("role")
def grant_service(role: str) -> None:
    """Give a database role the rights that running the service needs: no DDL, no TRUNCATE, no change of the audit log.

    Run it as the owner that migrates; the service then runs as ROLE with OUTCOMES_MIGRATE_ON_START=0.
    """
    from service.commands import grant_service

    grant_service.grant_service(role)


@outcomes.command(short_help="Check everything, and say what to do.")
@click.option("--url", help="Address of the running service.  [default: from OUTCOMES_HOST and OUTCOMES_PORT]")
@click.option("--no-service", is_flag=True, help="Skip the running service, such as before a first start.")
@click.option("--webhook-url", help="The public address that the provider sends to: https://…/webhooks/formant.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(url: str | None, no_service: bool, webhook_url: str | None, as_json: bool) -> None:
    """Check configuration, database, clocks, provider, webhooks and the running service, and say what to do.

    Each finding is ok, unchecked, a warning or a problem. Exits with 1 if there is a problem, else with 0.
    Changes nothing; prints no secrets and no personal data. Needs the service's settings: run it where that runs.
    """
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.UsageError("--url takes an address that begins with http:// or https://")
    from service.commands import doctor

    doctor.doctor(url, is_service_left_out=no_service, webhook_url=webhook_url, as_json=as_json)


@outcomes.command(short_help="See it at work, without an account.")
@click.option("--recipients", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Batch size.")
@click.option("--seed", type=int, help="The same seed gives the same calls.  [default: a new one]")
@click.option("--speed", default=480.0, show_default=True, type=click.FloatRange(1), help="Times real time.")
@click.option("--drop", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share never sent.")
@click.option("--duplicate", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Share sent twice.")
@click.option(
    "--reorder", "reorder_seconds", default=300.0, show_default=True, type=click.FloatRange(0),
    help="Shuffled within this many seconds.",
)  # fmt: skip
@click.option(
    "--bad-signature", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share with a forged copy."
)
@click.option(
    "--sandbox-port", default=0, show_default="a free one", type=click.IntRange(0, 65535), help="The sandbox's port."
)
@click.option("--exit", "is_exit", is_flag=True, help="Exit when the batch is done; with 0 only if the figures agree.")
def demo(**options: Any) -> None:
    """See it at work: Postgres, the provider's sandbox and the service, and one batch from CSV to final figures.

    Needs no account and no settings, and may be run again at any time. Afterwards it keeps serving until Ctrl-C, so
    that you can explore; commands in the same folder use its settings meanwhile.
    """
    from service.commands import demo

    demo.demo(**options)


@outcomes.command(short_help="Compare a batch with the provider's figures now.")
@click.argument("batch_id", type=_Id())
def reconcile(batch_id: int) -> None:
    """Compare a batch with the provider's figures now, and heal what is missing even while webhooks may still arrive.

    Exits with 1 if the batch has drifted.
    """
    from service.commands import reconcile

    reconcile.reconcile(batch_id)


_BATCH = click.option("--batch", "batch_id", type=_Id(), help="The provider's id of one batch.  [default: all]")


@outcomes.command(short_help="Recount outcomes and counters from the stored events.")
@click.option("--batch", "batch_id", type=_Id(), help="The provider's id of one batch.  [default: those that changed]")
@click.option("--full", "is_full", is_flag=True, help="Everything; continues a full run that was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(batch_id: int | None, is_full: bool, as_json: bool) -> None:
    """Recount outcomes and counters from the facts, and compare the facts with the raw events still kept.

    Without an option: batches that have changed since they were last verified, and a sample of everything else.
    Bodies are checked against their digests and the provider's signatures; for this run add retired secrets
    (FORMANT_WEBHOOK_SECRET=new,old). Events without a reference are attributed again without storing the result; with
    --batch, those that are in the batch or belong to it. Changes no data, and may run while webhooks arrive. Exits with
    1 if something differs; events that are about to be attributed are listed, but are not differences.
    """
    from service.commands import verify

    if is_full and batch_id is not None:
        raise click.UsageError("--full is everything, and --batch is one batch: give one of them")
    verify.verify(batch_id, is_full=is_full, as_json=as_json)


@outcomes.command(short_help="Recompute outcomes and counters from the facts.")
@_BATCH
def rebuild(batch_id: int | None) -> None:
    """Recompute outcomes and counters from the facts, in small steps, while webhooks arrive."""
    from service.commands import rebuild

    rebuild.rebuild(batch_id)


@outcomes.command(short_help="Attribute events without a reference again.")
def reattribute() -> None:
    """Attribute events without a reference again, and move those that belong elsewhere.

    Run it once after an upgrade from a version that kept no evidence on them; otherwise the service does this itself.
    It works in small steps while webhooks arrive, and may be run again. `outcomes verify` lists in advance what it
    would move.
    """
    from service.commands import reattribute

    reattribute.reattribute()


@outcomes.command(short_help="Correct implausible values from older versions.")
def repair() -> None:
    """Remove implausible times and numbers that older versions stored, while webhooks arrive.

    The service does this itself when it starts; run this after a restore, before `outcomes verify`. It can be stopped
    at any time, and continues where it stopped.
    """
    from service.commands import repair

    repair.repair()


@outcomes.command(short_help="Process quarantined webhooks again.")
@click.argument("quarantine_id", type=_Id(), required=False)
def replay(quarantine_id: int | None) -> None:
    """Process quarantined webhooks again: one body by its id, or all of them.

    Exits with 1 if one still cannot be used; it stays in quarantine.
    """
    from service.commands import replay

    replay.replay(quarantine_id)


@outcomes.group(short_help="Batches and their uploads.")
def batches() -> None:
    """Batches and their uploads."""


@batches.command(short_help="Say what became of an unknown upload.")
@click.argument("upload_id", type=_Id())
@click.option("--batch-id", type=_Id(), help="The provider's batch that the upload became.")
@click.option("--accept-difference", is_flag=True, help="Accept that the provider counts other recipients.")
@click.option("--not-sent", is_flag=True, help="The provider never accepted it: nobody is dialled.")
@click.option("--not-these", metavar="N,N", help="It is none of these batches: name all that it could be.")
@click.option("--accept-unreadable", is_flag=True, help="It is not an unreadable entry of the list either.")
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

    The evidence is checked first: the provider's list, and webhooks received so far.
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
    from service.commands import batches

    batches.resolve(
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

    read reads figures and recipients, upload starts calls, feed reads the changes; admin may do all of it, and erase.
    Changes take effect within seconds, on every replica.
    """


@keys.command("create", short_help="Create a key and print it once.")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="May be repeated.  [default: read]")
@click.option("--expires-in", help="Such as 12h, 90d or 8w.  [default: never]")
def create_key(name: str, scopes: tuple[str, ...], expires_in: str | None) -> None:
    """Create a key and print it once: it cannot be shown again."""
    from service.commands import keys

    keys.create(name, scopes or ("read",), expires_in)


@keys.command("list", short_help="List the keys, and when each was last used.")
def list_keys() -> None:
    """List the keys: their first characters, their scopes, and when each was last used."""
    from service.commands import keys

    keys.list_keys()


@keys.command("revoke", short_help="Revoke a key by its name or id.")
@click.argument("name_or_id")
def revoke_key(name_or_id: str) -> None:
    """Revoke a key by its name or id: it is refused everywhere within seconds."""
    from service.commands import keys

    keys.revoke(name_or_id)


@outcomes.command(short_help="Erase a person by phone.")
@click.argument("phone")
@click.option("--dry-run", is_flag=True, help="Only count what would be erased.")
def erase(phone: str, dry_run: bool) -> None:
    """Erase a person: phone, parameters, what was said, raw events, and rows of held files.

    The outcomes of their calls stay counted. Later webhooks do not restore the person. Exits with 1 while data that
    names them is still being processed; a running service then finishes the erasure.
    """
    from service.commands import erase

    erase.erase(phone, is_dry=dry_run)


@outcomes.command("suppress", short_help="Never call the people of a file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--reason", required=True, help="Why, without names: it is listed and logged.")
@click.option("--source", default="command", show_default=True, help="Who says so, in a word.")
@click.option("--region", help="Country of phones without a country code.  [default: OUTCOMES_DEFAULT_REGION]")
@click.option("--phone-column", default="", help="Column of a CSV with the phones.  [default: customer_phone]")
@click.option("--remove", "is_removal", is_flag=True, help="Remove the people from the list instead.")
def suppress(file: Path, reason: str, source: str, region: str | None, phone_column: str, is_removal: bool) -> None:
    """Put the people of FILE on the list of people who must not be called, or remove them from it.

    FILE is a CSV with a column of phones, or has a phone on each line. Only keyed hashes of the phones are
    stored. Uploads leave these people out, also those that are held or not sent yet; the provider's own retries and
    calls from its dashboard are not affected.
    """
    from service.commands import suppress

    suppress.suppress(
        file, reason=reason, source=source, region=region, phone_column=phone_column, is_removal=is_removal
    )


@outcomes.group(short_help="The list of erased people.")
def erasures() -> None:
    """The list of erased people, as keyed hashes. Keep it, and repeat the erasures after a restore."""


@erasures.command("list", short_help="Print the list of erased people.")
def list_erasures() -> None:
    """Print the list of erased people. Keep a recent copy outside the database."""
    from service.commands import erasures

    erasures.list_erasures()


@erasures.command("repeat", short_help="Erase again people whom a backup restored.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def repeat_erasures(file: Path) -> None:
    """Erase again people whom a backup restored, by a list that is newer than the backup.

    Every phone is hashed and compared, so it may take minutes; run it before the service.
    """
    from service.commands import erasures

    erasures.repeat(file)


@outcomes.command("restart-feed", short_help="Declare that commits were lost.")
def restart_feed() -> None:
    """Declare that commits were lost: the database was restored, or a standby that lacked some took over.

    Positions continue far beyond all that were ever read. Readers of lost positions are refused (409) until they read
    from 0, and named consumers until they are reset. Run it as the owner of the schema, before the service if possible;
    it may be run again.
    """
    from service.commands import restart_feed

    restart_feed.restart_feed()


@outcomes.group(short_help="What waits in the spill stream.")
def spill() -> None:
    """The stream that keeps webhooks while Postgres is away (OUTCOMES_SPILL_URL)."""


@spill.command(short_help="Show what waits in the spill stream.")
def status() -> None:
    """Show what Postgres knows of the spill stream: what waited when it was last looked at, and the replicas that may
    have put events there. Exits with 1 while some may wait."""
    from service.commands import spill

    spill.show_status()


@spill.command(short_help="Turn the spill off, or prepare a move to other servers.")
def off() -> None:
    """Forget the spill, so that verdicts are final without it: once nothing waits, and no replica uses it any more.

    Run it too before replicas start with other servers. It is recorded in the audit log.
    """
    from service.commands import spill

    spill.turn_off()


@spill.command(short_help="Give up a stream whose servers are gone for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def lost(yes: bool) -> None:
    """Give up a stream whose servers are gone for good, with the webhooks in it, so that verdicts become final again.

    The stream that replicas reach in its place, if any, is accepted. Healing fetches the calls from the provider; their
    call parameters may be lost. Refused while a replica reads the stream. It is recorded in the audit log.
    """
    from service.commands import spill

    if not yes:
        click.confirm("Give up the webhooks that wait there?", abort=True)
    spill.declare_lost()


@outcomes.group(short_help="The roles that BI tools read as.")
def bi() -> None:
    """The roles that BI tools read as, and what those see."""


@bi.command(short_help="Create or repair a role that only reads bi.")
@click.option("--full", is_flag=True, help="bi_reader_full, which sees phones and call parameters; else bi_reader.")
@click.option("--connections", default=20, show_default=True, type=click.IntRange(1, 1000), help="Max. at a time.")
@click.option(
    "--statement-seconds", default=60, show_default=True, type=click.IntRange(1, 86_400), help="Longest query."
)
@click.option("--print", "is_print", is_flag=True, help="Only print the SQL for an administrator.")
def role(full: bool, connections: int, statement_seconds: int, is_print: bool) -> None:
    """Create or repair a role that reads the schema bi and nothing else.

    Its password comes from OUTCOMES_BI_PASSWORD; without it the present password stays. May be run again.
    """
    from service.commands import bi

    bi.role(is_full=full, connections=connections, statement_seconds=statement_seconds, is_print=is_print)


_NAMES = click.argument("names", nargs=-1)
_RESULT = click.option("--result", "is_result", is_flag=True, help="Names are of results, not of call parameters.")
_AGENT = click.option("--agent", "agent_id", type=_Id(), help="All results of an agent, instead of names.")


@bi.command(short_help="Show call parameters or results to bi_reader.")
@_NAMES
@_RESULT
@_AGENT
def show(names: tuple[str, ...], is_result: bool, agent_id: int | None) -> None:
    """Show call parameters (or results) to bi_reader: those that say nothing about a single person.

    With --result --agent ID the results of that agent are shown like those of any other.
    """
    _set_shown(names, is_result, agent_id, is_shown=True)


@bi.command(short_help="Hide call parameters or results from bi_reader.")
@_NAMES
@_RESULT
@_AGENT
def hide(names: tuple[str, ...], is_result: bool, agent_id: int | None) -> None:
    """Hide call parameters (or results) from bi_reader.

    Results take patterns: '*name*' also hides customer_name, in any case, unless it is shown by name. With --result
    --agent ID all results of that agent are hidden except those shown by name.
    """
    _set_shown(names, is_result, agent_id, is_shown=False)


def _set_shown(names: tuple[str, ...], is_result: bool, agent_id: int | None, *, is_shown: bool) -> None:
    if bool(names) == (agent_id is not None):
        raise click.UsageError("Give either names or --agent")
    if agent_id is not None and not is_result:
        raise click.UsageError("--agent goes with --result: call parameters are hidden unless they are shown")
    from service.commands import bi

    bi.set_shown(names, "result" if is_result else "parameter", agent_id, is_shown=is_shown)


def main() -> None:
    """The entry point. A failure is reported in one line, with exit status 2 if the user can fix it, 1 if the fault is
    ours."""
    try:
        outcomes.main(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)  # Ctrl-C, as shells report it
    except Exception as error:
        from service.commands import failures

        sys.exit(failures.report(error))

"""The command line: ``outcomes``. Each command reads the settings, puts the parts together and runs them."""

import asyncio
import gc
import os
import sys
from contextlib import closing
from typing import Any

import asyncpg
import click
import structlog
import uvloop

from service.access.actor import SERVICE, set_actor
from service.app import build_reconciler, open_app, prepare_schema
from service.batches.lookup import UploadFinder
from service.crm.command import crm_sync
from service.demo import DemoOptions, run_demo
from service.erase_command import erase
from service.errors import ConfigurationError, OutcomesError
from service.formant.client import FormantClient, open_http
from service.formant.events import EventDecoder
from service.formant.targets import load_targets
from service.keys_command import keys
from service.ledger.quarantine import Replayer
from service.ledger.rebuilding import Rebuilder
from service.ledger.telling import show_rows, tell_findings, tell_rebuilt
from service.ledger.verification import Verifier
from service.ledger.writer import Writer
from service.logs import configure_logs
from service.metrics import Metrics
from service.reconcile.drift import Assessment
from service.reconcile.telling import show_progress, tell_assessment
from service.sandbox.command import sandbox
from service.server import serve_until_signal
from service.settings import Settings, read_settings
from service.starting import open_database_url as _database_url
from service.starting import start as _start
from service.store.bi_roles import ROLES, list_role_changes, set_shown, set_up_role
from service.store.database import connect, open_database

logger = structlog.get_logger()

GC_THRESHOLD = 2000


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def outcomes() -> None:
    """Exact outcomes of batch calls, from a voice-AI provider's webhooks.

    Settings come from the environment; the README lists them. Without OUTCOMES_DATABASE_URL an embedded Postgres runs
    in OUTCOMES_DATA_DIR (default .data). To see everything at work, without an account: outcomes demo
    """


@outcomes.command()
def serve() -> None:
    """Run the service until SIGTERM, then drain and exit with 0."""
    settings = _start()
    with _database_url(settings) as url:
        uvloop.run(_serve(settings, url))


async def _serve(settings: Settings, url: str) -> None:
    set_actor(SERVICE)  # what it does by itself; requests act for their keys
    async with open_app(settings, url) as app:
        # What was made at the start stays, so no collection need look at it again, in the midst of requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        await serve_until_signal(app, settings.host, settings.port, app.end_waits)


@outcomes.command()
def migrate() -> None:
    """Bring the database's schema up to this version (serve does so too, unless told not to)."""
    settings = _start()
    with _database_url(settings) as url:
        uvloop.run(prepare_schema(url, may_migrate=True))
    click.echo("The schema is up to date.")


@outcomes.command()
@click.argument("quarantine_id", type=int, required=False)
def replay(quarantine_id: int | None) -> None:
    """Send what waits in quarantine on its way again: one body by its id, or all of them.

    Ends with 1 when something still cannot be used; it stays in quarantine.
    """
    settings = _start()
    with _database_url(settings) as url:
        failed = uvloop.run(_replay(settings, url, quarantine_id))
    sys.exit(1 if failed else 0)


async def _replay(settings: Settings, url: str, quarantine_id: int | None) -> int:
    await prepare_schema(url, may_migrate=False)
    async with open_database(url, allow_unsafe=settings.allow_unsafe_database) as database:
        writer = Writer(url, database.queries, Metrics())
        # Replaying verifies nothing, so it needs no secret; but a target's agents hold.
        targets = load_targets(settings.webhook_secrets, allow_unsigned=True, path=settings.targets_file)
        replayer = Replayer(database, targets, EventDecoder(settings.ref_column), writer)
        failed = 0
        try:
            if quarantine_id is not None:
                return _tell_replay(quarantine_id, await replayer.replay(quarantine_id))
            async for replayed_id, event_id in replayer.replay_all():
                failed += _tell_replay(replayed_id, event_id)
        finally:
            writer.close()
        return failed


def _tell_replay(quarantine_id: int, event_id: str | None) -> int:
    click.echo(f"{quarantine_id}: {'still cannot be used, stays' if event_id is None else f'is event {event_id}'}")
    return event_id is None


@outcomes.command()
@click.argument("batch_id", type=int)
def reconcile(batch_id: int) -> None:
    """Compare a batch with the provider's figures now, without grace, and heal what is missing.

    Ends with 1 when the figures differ afterwards.
    """
    settings = _start()
    if not settings.formant_api_key:
        raise ConfigurationError("FORMANT_API_KEY is empty, so the provider cannot be asked: set it")
    with _database_url(settings) as url:
        assessment = uvloop.run(_reconcile(settings, url, batch_id))
    tell_assessment(batch_id, assessment)
    sys.exit(1 if assessment.verdict == "drifted" else 0)


async def _reconcile(settings: Settings, url: str, batch_id: int) -> Assessment:
    await prepare_schema(url, may_migrate=False)
    metrics = Metrics()
    async with (
        open_database(url, allow_unsafe=settings.allow_unsafe_database) as database,
        open_http(settings.formant_base_url, settings.formant_api_key) as http,
    ):
        writer = Writer(url, database.queries, metrics)
        with closing(writer), show_progress(batch_id) as tell:
            reconciler = build_reconciler(settings, database, http, metrics, writer)
            return await reconciler.reconcile_now(batch_id, tell)


@outcomes.command()
@click.option("--batch", "batch_id", type=int, help="The provider's id of one batch; all without it.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(batch_id: int | None, as_json: bool) -> None:
    """Recount every outcome and counter from the facts, and hold the facts against the raw events still kept.

    Changes nothing, and may run beside webhooks. Ends with 1 when something differs.
    """
    settings = _start()
    with _database_url(settings) as url:
        sys.exit(1 if uvloop.run(_verify(settings, url, batch_id, as_json)) else 0)


async def _verify(settings: Settings, url: str, batch_id: int | None, as_json: bool) -> int:
    await prepare_schema(url, may_migrate=False)
    async with open_database(url, allow_unsafe=settings.allow_unsafe_database) as database:
        with show_rows("Verified") as tell:
            verifier = Verifier(database, EventDecoder(settings.ref_column), tell)
            return await tell_findings(verifier.verify(batch_id), as_json=as_json)


@outcomes.command()
@click.option("--batch", "batch_id", type=int, help="The provider's id of one batch; all without it.")
def rebuild(batch_id: int | None) -> None:
    """Make outcomes and counters anew from the facts, in small steps, while webhooks keep coming."""
    settings = _start()
    with _database_url(settings) as url:
        uvloop.run(_rebuild(settings, url, batch_id))


async def _rebuild(settings: Settings, url: str, batch_id: int | None) -> None:
    await prepare_schema(url, may_migrate=False)
    async with open_database(url, allow_unsafe=settings.allow_unsafe_database) as database:
        with show_rows("Rebuilt") as tell:
            await tell_rebuilt(Rebuilder(database, tell).rebuild(batch_id))


@outcomes.command()
@click.option("--recipients", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Batch size.")
@click.option("--seed", default=1, show_default=True, type=int, help="The same seed gives the same calls.")
@click.option("--speed", default=480.0, show_default=True, type=click.FloatRange(1), help="Times real time.")
@click.option("--drop", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share never sent.")
@click.option("--duplicate", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Share sent twice.")
@click.option(
    "--reorder", default=300.0, show_default=True, type=click.FloatRange(0), help="Shuffled within so many seconds."
)
@click.option(
    "--bad-signature", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="Share with a forged copy."
)
@click.option(
    "--sandbox-port", default=0, show_default="a free one", type=click.IntRange(0, 65535), help="The sandbox's port."
)
@click.option("--exit", "is_exit", is_flag=True, help="End when the batch has; status 0 only if the figures agree.")
def demo(**options: Any) -> None:
    """See it at work: Postgres, the provider's sandbox and the service, and one batch from CSV to final figures.

    Needs no account and no settings. Afterwards it keeps serving until Ctrl-C, so that you can look around.
    """
    configure_logs("error")
    settings = read_settings({name: value for name, value in os.environ.items() if name.startswith("OUTCOMES_")})
    with _database_url(settings) as url:
        agrees = uvloop.run(run_demo(settings, url, DemoOptions(reorder_seconds=options.pop("reorder"), **options)))
    sys.exit(0 if agrees else 1)


@outcomes.command("grant-service")
@click.argument("role")
def grant_service(role: str) -> None:
    """Give a database role what running the service takes: no DDL, no TRUNCATE, no change of the audit log.

    Run it as the owner that migrates; the service then runs as ROLE with OUTCOMES_MIGRATE_ON_START=0.
    """
    settings = _start()
    with _database_url(settings) as url:
        uvloop.run(_grant_service(settings, url, role))
    click.echo(f"{role} may run the service.")


async def _grant_service(settings: Settings, url: str, role: str) -> None:
    await prepare_schema(url, may_migrate=False)
    async with open_database(url, allow_unsafe=settings.allow_unsafe_database) as database:
        try:
            await database.queries.grant_service(database.pool, role=role)
        except asyncpg.UndefinedObjectError as error:
            raise ConfigurationError(f"There is no role {role!r}: make it first, with CREATE ROLE … LOGIN") from error


outcomes.add_command(sandbox)
outcomes.add_command(crm_sync)
outcomes.add_command(keys)
outcomes.add_command(erase)


@outcomes.group()
def batches() -> None:
    """Batches and their uploads."""


@batches.command()
@click.argument("upload_id", type=int)
@click.option("--batch-id", type=int, help="The provider's batch that the upload became.")
@click.option("--not-sent", is_flag=True, help="The provider has never taken it: nobody is dialled.")
def resolve(upload_id: int, batch_id: int | None, not_sent: bool) -> None:
    """Say what became of an upload that is unknown (GET /v1/uploads?state=unknown).

    The evidence is checked first: the provider's list, and webhooks that have come in.
    """
    if (batch_id is None) == (not not_sent):
        raise click.UsageError("Give either --batch-id N or --not-sent")
    settings = _start()
    with _database_url(settings) as url:
        uvloop.run(_resolve(settings, url, upload_id, batch_id))
    click.echo(f"Upload {upload_id} {'was not sent' if batch_id is None else f'is batch {batch_id}'}.")


async def _resolve(settings: Settings, url: str, upload_id: int, batch_id: int | None) -> None:
    await prepare_schema(url, may_migrate=False)
    async with (
        open_database(url, allow_unsafe=settings.allow_unsafe_database) as database,
        open_http(settings.formant_base_url, settings.formant_api_key) as http,
    ):
        client = FormantClient(http, Metrics()) if settings.formant_api_key else None
        await UploadFinder(database, client).resolve(upload_id, batch_id)


@outcomes.group()
def bi() -> None:
    """The roles that BI tools read as, and what they are shown."""


@bi.command()
@click.option("--full", is_flag=True, help="bi_reader_full, which sees phones and call parameters; else bi_reader.")
@click.option("--connections", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most, at a time.")
@click.option(
    "--statement-seconds", default=60, show_default=True, type=click.IntRange(1, 86_400), help="Longest query."
)
@click.option("--print", "is_print", is_flag=True, help="Only print what an administrator would have to run.")
def role(full: bool, connections: int, statement_seconds: int, is_print: bool) -> None:
    """Make or mend a role that reads the schema bi and nothing else.

    Its password comes from OUTCOMES_BI_PASSWORD; without, the present one stays. Safe to run again.
    """
    settings = _start()
    name = ROLES[1] if full else ROLES[0]
    limits = {"connections": connections, "statement_seconds": statement_seconds}
    with _database_url(settings) as url:
        if is_print:
            uvloop.run(_print_role(url, name, limits))
        else:
            is_changed = uvloop.run(_set_up_role(url, name, limits, settings.bi_password))
            click.echo(f"{name} {'is set up' if is_changed else 'is as it should be'}.")


async def _print_role(url: str, name: str, limits: dict[str, int]) -> None:
    await prepare_schema(url, may_migrate=False)
    connection = await connect(url)
    try:
        for statement in await list_role_changes(connection, name, verifier=None, **limits):
            click.echo(f"{statement};")
    finally:
        await connection.close()
    click.echo(f"\\password {name}")


async def _set_up_role(url: str, name: str, limits: dict[str, int], password: str) -> bool:
    await prepare_schema(url, may_migrate=False)
    connection = await connect(url)
    try:
        return await set_up_role(connection, name, password=password, **limits)
    finally:
        await connection.close()


@bi.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--result", "is_result", is_flag=True, help="The names are of results, not of call parameters.")
def show(names: tuple[str, ...], is_result: bool) -> None:
    """Show call parameters (or results) to bi_reader: those that say nothing about a single person."""
    _show_to_bi(names, is_result, is_shown=True)


@bi.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--result", "is_result", is_flag=True, help="The names are of results, not of call parameters.")
def hide(names: tuple[str, ...], is_result: bool) -> None:
    """Hide call parameters (or results) from bi_reader."""
    _show_to_bi(names, is_result, is_shown=False)


def _show_to_bi(names: tuple[str, ...], is_result: bool, *, is_shown: bool) -> None:
    settings = _start()
    with _database_url(settings) as url:
        for line in uvloop.run(_set_shown(url, "result" if is_result else "parameter", names, is_shown)):
            click.echo(line)


async def _set_shown(url: str, kind: str, names: tuple[str, ...], is_shown: bool) -> list[str]:
    await prepare_schema(url, may_migrate=False)
    connection = await connect(url)
    try:
        return await set_shown(connection, kind, names, is_shown=is_shown)
    finally:
        await connection.close()


def main() -> None:
    """The entry point: errors of ours are told in one sentence, with 2 as the status."""
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

"""``outcomes demo``: Postgres, the provider's sandbox and the service at once, and a batch from CSV to final figures.

It uses the service as a customer does, over HTTP, and finally compares the figures with the provider's. Runs may share
a database: each has its own people, calls and ids.
"""

import asyncio
import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.app import open_app
from service.commands.startup import begin, find_service_url, open_database_url
from service.counts import count
from service.demo_settings import publish_demo
from service.errors import ConfigurationError, OutcomesError
from service.sandbox import (
    Faults,
    RunningClock,
    RunningSandbox,
    SandboxOptions,
    WebhookTarget,
    sample_contacts,
    serve_sandbox,
)
from service.server.ports import find_free_port
from service.server.process import serve_in_background
from service.settings import Settings, read_settings

AGENT_ID = 123
API_KEY = "demo-key"
SANDBOX_KEY = "sandbox-key"
SECRET = "demo-secret"  # noqa: S105  of webhooks from this machine, for as long as the demo runs
HEAD_START_SECONDS = 6 * 3600
"""The sandbox's clock runs fast while it calls, so it starts in the past. The demo's batch takes half of that."""
GRACE_SECONDS, RECONCILE_SECONDS = 900, 30
"""On the provider's clock."""
POLL_SECONDS = 0.25
HEALING_SECONDS = 120.0
AVERAGE_TOLERANCE = 0.1  # both sides round to one decimal
CONTACTS = "contacts.csv"
CONTACTS_COUNT = 100


class DemoOptions(NamedTuple):
    """How the demo's provider behaves."""

    recipients: int
    seed: int | None
    """None: a new one. The same seed gives calls the same ids again."""
    speed: float
    faults: Faults
    sandbox_port: int
    is_exit: bool


def demo(recipients: int, seed: int | None, speed: float, sandbox_port: int, *, is_exit: bool, **faults: Any) -> None:
    """Runs it; exits with 0 only if every figure of ours equals the provider's. ``faults`` are fields of ``Faults``."""
    options = DemoOptions(recipients, seed, speed, Faults(**faults), sandbox_port, is_exit)
    environ = make_environ(os.environ, options)
    settings = begin({"OUTCOMES_LOG_LEVEL": "error", **environ}, for_people=True)
    beside = environ | {"OUTCOMES_URL": find_service_url(settings), "OUTCOMES_FEED_KEY": settings.api_key}
    with publish_demo(settings.data_dir, beside), open_database_url(settings, may_create=True) as url:
        agrees = uvloop.run(_run(settings, url, options))
    sys.exit(0 if agrees else 1)


def make_environ(environ: Mapping[str, str], options: DemoOptions) -> dict[str, str]:
    """The demo's settings by their environment names: the service's as given, the provider's for the sandbox. Delays
    fit the provider's clock."""
    given = {name: value for name, value in environ.items() if name.startswith("OUTCOMES_")}
    settings = read_settings(given)
    made = {
        "OUTCOMES_DATABASE_URL": settings.database_url,
        "OUTCOMES_API_KEY": settings.api_key or API_KEY,
        "OUTCOMES_PORT": str(settings.port or find_free_port()),
        "FORMANT_BASE_URL": f"http://127.0.0.1:{options.sandbox_port or find_free_port()}",
        "FORMANT_API_KEY": SANDBOX_KEY,
        "FORMANT_WEBHOOK_SECRET": SECRET,
    }
    fitting = {
        "OUTCOMES_GRACE_SECONDS": str(max(1, round(GRACE_SECONDS / options.speed))),
        "OUTCOMES_RECONCILE_SECONDS": str(max(1, round(RECONCILE_SECONDS / options.speed))),
    }
    kept = {name: value for name, value in given.items() if name.removesuffix("_FILE") not in made}
    return fitting | kept | made


async def _run(settings: Settings, database_url: str, options: DemoOptions) -> bool:
    url = find_service_url(settings)
    provider = SandboxOptions(
        api_keys=(SANDBOX_KEY,),
        targets=(WebhookTarget(url=f"{url}/webhooks/formant", secret=SECRET, transcript=True),),
        seed=options.seed,
        rate_limit=1000,
    )
    clock = RunningClock(options.speed, time.time() - HEAD_START_SECONDS, pauses=True)
    port = httpx.URL(settings.formant_base_url).port or 0
    async with AsyncExitStack() as stack:
        try:
            sandbox = await stack.enter_async_context(
                serve_sandbox(provider, port=port, faults=options.faults, clock=clock)
            )
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on 127.0.0.1:{port} ({error.strerror}): give another --sandbox-port"
            ) from error
        service = await stack.enter_async_context(open_app(settings, database_url))
        await stack.enter_async_context(serve_in_background(service, settings.host, settings.port))
        return await _Demo(settings, url, sandbox, options).run()


class _Demo:
    def __init__(self, settings: Settings, url: str, sandbox: RunningSandbox, options: DemoOptions) -> None:
        self._console = Console(highlight=False)
        self._settings = settings
        self._url = url
        self._sandbox = sandbox
        self._options = options
        self._stop = asyncio.Event()
        self._client = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {settings.api_key}"}, timeout=30.0, trust_env=False
        )

    async def run(self) -> bool:
        """Whether all figures agree; also False when a signal stopped the demo."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        self._console.print(
            f"The service answers at {self._url},\nthe provider's sandbox at {self._sandbox.base_url}.\n"
            "Open this link, and watch a batch come to life:\n"
            f"{self._url}/console/sign-in#{quote(self._settings.api_key)}\n",
            soft_wrap=True,
            markup=False,
        )
        async with self._client:
            await self._prepare_agent()
            batch_id = await self._upload()
            await self._watch(batch_id)
            if self._stop.is_set() or not await self._heal(batch_id):
                self._console.print("Stopped before the batch was compared. Run it again at any time.")
                return False
            agrees = await self._compare(batch_id)
        if not self._options.is_exit:
            self._print_hints(batch_id)
            await self._stop.wait()
        return agrees

    async def _prepare_agent(self) -> None:
        """Says what the agent's goal is, and which of its results are callbacks, unless somebody did already."""
        for path, content in (
            (f"/v1/agents/{AGENT_ID}/goal", {"results": {"intent": ["promise_to_pay", "already_paid"]}}),
            (f"/v1/agents/{AGENT_ID}/callbacks", {"results": ["callback_time", "promise_date"]}),
        ):
            if (await self._client.get(path)).status_code == 404:
                await self._ask("PUT", path, json=content)

    async def _upload(self) -> int:
        options, faults = self._options, self._options.faults
        # Clocks of several runs overlap. With the same people, a lost call could belong to either batch, and would stay
        # ambiguous.
        contacts = sample_contacts(options.recipients, secrets.randbits(64))
        batch = await self._ask(
            "POST",
            "/v1/batch-call",
            # The sandbox calls nobody, so what an earlier run left need not hold the upload.
            data={"agent_id": str(AGENT_ID), "name": "Demo", "force": "true", "accept_columns": "true"},
            files={"file": ("demo.csv", contacts, "text/csv")},
        )
        self._console.print(
            f"Uploaded a CSV: batch {batch['id']}, {count(batch['total_recipients'], 'recipient')}. "
            f"The provider calls them, {options.speed:g} times as fast as real time. It loses {faults.drop:.0%} of "
            f"its webhooks, sends {faults.duplicate:.0%} twice, out of order within {faults.reorder_seconds:g} s, "
            f"and forges a copy of {faults.bad_signature:.0%}."
        )
        batch_id: int = batch["id"]
        return batch_id

    async def _watch(self, batch_id: int) -> None:
        """Shows the figures until the provider has nothing more to dial or send."""
        done = asyncio.ensure_future(self._sandbox.sandbox.wait_until_done(batch_id))
        stopped = asyncio.ensure_future(self._stop.wait())
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=12), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("Uploaded", total=self._options.recipients)
            finished: set[asyncio.Future[Any]] = set()
            while not finished:
                finished, _ = await asyncio.wait(
                    {done, stopped}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                recipients = (await self._ask("GET", f"/v1/batch-calls/{batch_id}/outcomes"))["recipients"]
                progress.update(
                    task,
                    completed=recipients["processed"],
                    description=f"{recipients['processed']:,} of {recipients['total']:,} done, "
                    f"{recipients['pending_retry']:,} to be retried",
                )
        for future in (done, stopped):
            future.cancel()

    async def _heal(self, batch_id: int) -> bool:
        """Compares and heals the batch, waiting while the service does so already; False: stopped by a signal."""
        self._console.print("All webhooks have arrived. Comparing with the provider, and healing what is lost.")
        give_up_at = time.monotonic() + HEALING_SECONDS
        while not self._stop.is_set():
            answer = await self._client.post(f"/v1/batch-calls/{batch_id}/reconcile", timeout=HEALING_SECONDS)
            if answer.status_code != 503 or time.monotonic() > give_up_at:
                _read(answer)
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _compare(self, batch_id: int) -> bool:
        path = f"/v1/batch-calls/{batch_id}/metrics"
        ours = await self._ask("GET", path)
        authorization = {"authorization": f"Bearer {SANDBOX_KEY}"}
        theirs = _read(await self._client.get(f"{self._sandbox.base_url}{path}", headers=authorization))
        outcomes = await self._ask("GET", f"/v1/batch-calls/{batch_id}/outcomes")
        calls = [call for row in self._sandbox.sandbox.recipients(batch_id) for call in row["attempts"]]
        lost = sum("acknowledged" not in call["deliveries"] for call in calls)
        table = Table("figure", "ours", "the provider's", "", title=f"Batch {batch_id}")
        agrees: bool = outcomes["verdict"] == "complete"
        for name in sorted(ours.keys() | theirs.keys()):
            is_equal = _is_equal(name, ours.get(name), theirs.get(name))
            agrees = agrees and is_equal
            table.add_row(name, str(ours.get(name)), str(theirs.get(name)), "equal" if is_equal else "DIFFERENT")
        table.add_section()
        table.add_row("calls without a webhook", str(lost), "", "lost")
        healed = outcomes["attempts"]["total"] - (len(calls) - lost)
        table.add_row("of these, fetched from the provider", str(healed), "", "healed")
        table.add_row("verdict", outcomes["verdict"], "", "")
        self._console.print(table)
        log = self._sandbox.sandbox.journal.describe()
        deliveries, forged = log["deliveries"], log["forged"]
        acknowledged = count(deliveries["acknowledged"], "delivery", "deliveries")
        self._console.print(
            f"{count(outcomes['attempts']['total'], 'call')}. {acknowledged} acknowledged, "
            f"{deliveries['duplicated']:,} of them duplicates. "
            f"{count(forged['sent'], 'forged webhook')} sent, {forged['accepted']:,} accepted."
        )
        self._console.print("Every figure agrees." if agrees else "The figures differ.")
        return agrees

    def _print_hints(self, batch_id: int) -> None:
        key = shlex.quote(self._settings.api_key)
        program = "outcomes" if shutil.which("outcomes") else min(sys.argv[0], os.path.relpath(sys.argv[0]), key=len)
        written = _write_contacts(self._settings.data_dir)
        for line in (
            "\nStill serving, until Ctrl-C. In another terminal, in this folder:\n",
            f"export OUTCOMES={self._url} KEY={key} BATCH={batch_id}",
            'curl "$OUTCOMES/v1/batch-calls/$BATCH/outcomes" -H "Authorization: Bearer $KEY"',
            f"{shlex.quote(program)} reconcile $BATCH\n",
            "Commands in this folder use the demo's settings.",
            written,
            f"All calls, to read and to try: {self._url}/docs",
            f"What the provider really did: {self._sandbox.base_url}/sandbox",
        ):
            self._console.print(line, soft_wrap=True, markup=False)

    async def _ask(self, method: str, path: str, **parts: Any) -> Any:
        return _read(await self._client.request(method, path, **parts))


def _read(answer: httpx.Response) -> Any:
    """The data of an answer. Raises OutcomesError for an error."""
    if answer.is_error:
        raise OutcomesError(f"{answer.request.method} {answer.request.url.path} was answered {answer.text}")
    return answer.json()["data"]


def _write_contacts(data_dir: Path) -> str:
    """Writes contacts.csv for the user's first upload, into this folder unless it has a file of the user's; returns a
    line about it. A copy beside the data lets the next run recognise its own file."""
    path, copy = Path(CONTACTS), data_dir.expanduser() / CONTACTS
    contacts = sample_contacts(CONTACTS_COUNT, secrets.randbits(64)).encode()
    try:
        is_ours = not path.exists() or (copy.exists() and path.read_bytes() == copy.read_bytes())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(contacts)
        if is_ours:
            path.write_bytes(contacts)
    except OSError as error:
        return f"{error.filename} cannot be written ({error.strerror}): upload a CSV of your own."
    if not is_ours:
        return f"{CONTACTS} here is yours and is kept; {copy} has people to upload."
    return f"{CONTACTS} has {CONTACTS_COUNT} more people to upload."


def _is_equal(name: str, ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return False
    tolerance = AVERAGE_TOLERANCE if name in {"avg_duration_seconds", "success_rate"} else 0
    return abs(ours - theirs) <= tolerance

"""The demo: Postgres, the provider's sandbox and the service in one go, and a batch from its CSV to its last figure.

It uses the service as a customer would, over HTTP, and ends by holding its figures against the provider's.
"""

import asyncio
import signal
import time
from dataclasses import dataclass, replace
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.app import open_app
from service.sandbox import Faults, RunningSandbox, SandboxOptions, Target, sample_contacts, serve_sandbox
from service.server.process import serve_in_background
from service.settings import Settings

AGENT_ID = 123
SANDBOX_KEY = "sandbox-key"
HEAD_START_SECONDS = 3 * 3600  # the sandbox's clock runs fast, so it begins in the past and ends before now
POLL_SECONDS = 0.25
AVERAGE_TOLERANCE = 0.1  # both sides round to one decimal


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How the demo's provider behaves."""

    recipients: int
    seed: int
    speed: float
    drop: float
    duplicate: float
    reorder_seconds: float
    bad_signature: float
    sandbox_port: int
    is_exit: bool


async def run_demo(settings: Settings, database_url: str, options: DemoOptions) -> bool:
    """Runs it; True when every figure of ours equals the provider's."""
    console = Console()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    secret = settings.webhook_secrets[0] if settings.webhook_secrets else "demo-secret"
    target = Target(url=f"http://{settings.host}:{settings.port}/webhooks/formant", secret=secret, transcript=True)
    provider = SandboxOptions(
        api_keys=(SANDBOX_KEY,),
        targets=(target,),
        seed=options.seed,
        speed=options.speed,
        start=time.time() - HEAD_START_SECONDS,
        rate_limit=1000,
    )
    faults = Faults(
        drop=options.drop,
        duplicate=options.duplicate,
        reorder_seconds=options.reorder_seconds,
        bad_signature=options.bad_signature,
    )
    async with serve_sandbox(provider, port=options.sandbox_port, faults=faults) as sandbox:
        configured = replace(
            settings,
            api_key=settings.api_key or "demo-key",
            webhook_secrets=(secret,),
            formant_base_url=sandbox.base_url,
            formant_api_key=SANDBOX_KEY,
        )
        async with (
            open_app(configured, database_url) as service,
            serve_in_background(service, settings.host, settings.port),
        ):
            demo = _Demo(console, configured, sandbox, options, stop)
            return await demo.run()


class _Demo:
    def __init__(
        self, console: Console, settings: Settings, sandbox: RunningSandbox, options: DemoOptions, stop: asyncio.Event
    ) -> None:
        self._console = console
        self._settings = settings
        self._sandbox = sandbox
        self._options = options
        self._stop = stop
        self._url = f"http://{settings.host}:{settings.port}"

    async def run(self) -> bool:
        self._console.print(f"The service answers at {self._url}, the provider's sandbox at {self._sandbox.base_url}.")
        headers = {"authorization": f"Bearer {self._settings.api_key}"}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=30.0, trust_env=False) as client:
            batch_id = await self._upload(client)
            await self._watch(client, batch_id)
            if self._stop.is_set():
                return False
            lost = await self._heal(client, batch_id)
            agrees = await self._compare(client, batch_id, lost)
        if not self._options.is_exit:
            self._show_ways_on(batch_id)
            await self._stop.wait()
        return agrees

    async def _upload(self, client: httpx.AsyncClient) -> int:
        options = self._options
        # The sandbox's clock runs fast, so batches of several runs overlap on it. With the same people in both, a lost
        # call could be either batch's, and would rightly stay ambiguous.
        listed = (await client.get("/v1/batch-calls", params={"limit": 1})).raise_for_status().json()
        contacts = sample_contacts(options.recipients, options.seed + listed["total"])
        answer = await client.post(
            "/v1/batch-call",
            # The sandbox calls nobody, so what an interrupted run may have uploaded holds nothing back.
            data={"agent_id": str(AGENT_ID), "name": "March Follow Ups", "force": "true"},
            files={"file": ("contacts.csv", contacts, "text/csv")},
        )
        answer.raise_for_status()
        batch = answer.json()["data"]
        self._console.print(
            f"Uploaded contacts.csv: batch {batch['id']}, {batch['total_recipients']} recipients. "
            f"The provider calls, {options.speed:g} times as fast as real time; it loses {options.drop:.0%} of "
            f"its webhooks, sends {options.duplicate:.0%} twice, out of order within {options.reorder_seconds:g} s, "
            f"and {options.bad_signature:.0%} come with a forged copy."
        )
        batch_id: int = batch["id"]
        return batch_id

    async def _watch(self, client: httpx.AsyncClient, batch_id: int) -> None:
        """Shows the figures move until the provider has nothing more to dial or to send."""
        done = asyncio.ensure_future(self._sandbox.sandbox.wait_until_done(batch_id))
        stopped = asyncio.ensure_future(self._stop.wait())
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("processed", total=self._options.recipients)
            while True:
                finished, _ = await asyncio.wait(
                    {done, stopped}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                answer = await client.get(f"/v1/batch-calls/{batch_id}/outcomes")
                recipients = answer.raise_for_status().json()["data"]["recipients"]
                progress.update(
                    task,
                    completed=recipients["processed"],
                    description=f"processed, {recipients['pending_retry']} waiting for a retry",
                )
                if finished:
                    break
        for future in (done, stopped):
            future.cancel()

    async def _heal(self, client: httpx.AsyncClient, batch_id: int) -> int:
        """Has the batch compared and healed at once, instead of after the grace period; how many calls were missing."""
        outcomes = (await client.get(f"/v1/batch-calls/{batch_id}/outcomes")).raise_for_status().json()["data"]
        self._console.print(
            "All webhooks that will come have come. Comparing with the provider, and healing what is lost."
        )
        known: int = outcomes["attempts"]["total"]
        calls = sum(len(row["attempts"]) for row in self._sandbox.sandbox.recipients(batch_id))
        (await client.post(f"/v1/batch-calls/{batch_id}/reconcile", timeout=120.0)).raise_for_status()
        return calls - known

    async def _compare(self, client: httpx.AsyncClient, batch_id: int, lost: int) -> bool:
        path = f"/v1/batch-calls/{batch_id}/metrics"
        ours = (await client.get(path)).raise_for_status().json()["data"]
        answer = await client.get(f"{self._sandbox.base_url}{path}", headers={"authorization": f"Bearer {SANDBOX_KEY}"})
        theirs = answer.raise_for_status().json()["data"]
        outcomes = (await client.get(f"/v1/batch-calls/{batch_id}/outcomes")).raise_for_status().json()["data"]
        table = Table("figure", "ours", "the provider's", "", title=f"Batch {batch_id}")
        agrees = True
        for name in sorted(ours.keys() | theirs.keys()):
            is_equal = _is_equal(name, ours.get(name), theirs.get(name))
            agrees = agrees and is_equal
            table.add_row(name, str(ours.get(name)), str(theirs.get(name)), "equal" if is_equal else "DIFFERENT")
        table.add_section()
        table.add_row("calls of which no webhook came", str(lost), "", "lost")
        healed = outcomes["reconciliation"]["healed"]
        table.add_row("calls brought in from conversations", str(healed), "", "healed")
        table.add_row("verdict", outcomes["verdict"], "", "")
        self._console.print(table)
        self._console.print(self._describe_deliveries(outcomes))
        agrees = agrees and outcomes["verdict"] == "complete"
        self._console.print("Every figure agrees." if agrees else "The figures differ.")
        return agrees

    def _describe_deliveries(self, outcomes: dict[str, Any]) -> str:
        log = self._sandbox.sandbox.journal.describe()
        deliveries, forged = log["deliveries"], log["forged"]
        return (
            f"{outcomes['attempts']['total']} calls; {deliveries['acknowledged']} deliveries acknowledged, of which "
            f"{deliveries['duplicated']} were duplicates; {forged['sent']} forged ones sent, "
            f"{forged['accepted']} accepted. Verdict: {outcomes['verdict']}."
        )

    def _show_ways_on(self, batch_id: int) -> None:
        key = self._settings.api_key
        self._console.print(
            f"\nStill serving. Try:\n"
            f'  curl {self._url}/v1/batch-calls/{batch_id}/outcomes -H "Authorization: Bearer {key}"\n'
            f"  curl {self._url}/metrics\n"
            f"  curl {self._sandbox.base_url}/sandbox\n"
            "Ctrl-C ends it.",
            soft_wrap=True,
        )


def _is_equal(name: str, ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return False
    tolerance = AVERAGE_TOLERANCE if name in {"avg_duration_seconds", "success_rate"} else 0
    return abs(ours - theirs) <= tolerance

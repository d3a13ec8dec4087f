"""Random histories of similar uploads, against an oracle that knows which upload made which batch: no upload gets the
batch of another, and none that was sent is taken for not sent."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import ApiError, ConflictError
from service.formant.client import FormantClient, open_http
from service.formant.events import ANYWHERE
from service.sandbox import RunningSandbox, SandboxOptions, SteppedClock, serve_sandbox
from service.sandbox.faults import UploadFault
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lookup import UploadFinder, UploadRecovery
from service.uploads.resolution import Resolver
from service.uploads.sending import Sender
from service.uploads.storing import UploadRequest
from service.uploads.uploader import Uploader
from tests.eventually import eventually
from tests.factories import decode, make_payload
from tests.provider import KEY
from tests.webhooks.ingesting import ingest

HISTORIES = 60
NAMES = ("March", "March", "March", " march ")
FATES: dict[str, UploadFault | None] = {
    "answered": None,
    "refused": "400",
    "lost, taken": "lost_answer",
    "lost, taken, answered in doubt": "accepted_409",
    "lost, not taken": "refused_after_body",
    "lost, not taken, proxy": "proxy_429",
    "slow": "hang",
    "killed, taken": "lost_answer",
    "killed, not taken": "refused_after_body",
}
QUIRKS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
    dict,
    dict,
    lambda batch: batch | {"total_recipients": batch["total_recipients"] - 1},
    lambda batch: batch | {"total_recipients": batch["total_recipients"] + 1},
    lambda batch: batch | {"total_recipients": batch["total_recipients"] - batch["id"] % 2},
    lambda batch: batch | {"created_at": None},
    lambda batch: batch | {"created_at": batch["created_at"] if batch["id"] % 2 else None},
    lambda batch: batch | {"name": f" {batch['name'].upper()}  "},
    lambda batch: batch | {"created_at": shift(batch["created_at"], hours=-8)},
)
CLEARED = (
    "batches", "recipients", "facts", "outcomes", "events", "unattributed", "registrations", "batch_schedules",
    "feed_moves", "assignments", "agent_columns", "held_files", "outcome_counts", "batch_activity",
)  # fmt: skip


def shift(time_text: str, *, hours: int) -> str:
    return (datetime.fromisoformat(time_text) + timedelta(hours=hours)).isoformat()


class KilledError(ApiError):
    """The process was killed."""

    def __init__(self) -> None:
        super().__init__("killed")


class DeadFinder(UploadFinder):
    """The finder of a sender that was killed after sending: it records nothing."""

    async def record(self, *args: Any, **kwargs: Any) -> bool:
        raise KilledError

    async def fail(self, *args: Any, **kwargs: Any) -> str | None:
        raise KilledError

    async def record_unknown(self, *args: Any, **kwargs: Any) -> None:
        raise KilledError


class History:
    """Uploads of one agent, and what happens to them."""

    def __init__(self, database: Database, sandbox: RunningSandbox, http: httpx.AsyncClient, seed: int) -> None:
        self._dice = random.Random(seed)
        self._database = database
        self._sandbox = sandbox.sandbox
        client = FormantClient(http, Metrics())
        self._client = client
        self._finder = UploadFinder(database, client)
        self._resolver = Resolver(database, client, ANYWHERE)
        self._ref_column = self._dice.choice(["outcome_ref", ""])
        self._sandbox.records.reshape = self._dice.choice(QUIRKS)
        self._owners: dict[int, str] = {}
        self._labels: dict[int, str] = {}
        self._files: dict[str, tuple[str, str]] = {}
        self._slow: list[asyncio.Task[None]] = []
        self.seen: Counter[str] = Counter()

    async def run(self, folder: Path) -> None:
        for number in range(self._dice.choice([2, 3])):
            await self._upload(f"upload {number}", folder, self._dice.choice(list(FATES)))
            for _ in range(self._dice.randrange(3)):
                await self._take_step(folder)
        for _ in range(6):
            await self._take_step(folder)
        self._sandbox.faults.release()
        await asyncio.gather(*self._slow, return_exceptions=True)
        await self._look_up()
        await self._check()

    async def _take_step(self, folder: Path) -> None:
        calm: list[Callable[[], Awaitable[None]]] = [
            self._look_up, self._look_up, self._advance, self._send_webhooks, self._release, self._expire, self._name,
        ]  # fmt: skip
        step = self._dice.choice([*calm, None])
        await (step() if step is not None else self._deny(folder))
        await self._check()

    def _make_file(self) -> str:
        """A few people: all, some or none of them in common with an earlier upload."""
        first = self._dice.choice([0, 2, 10, 20])
        count = self._dice.choice([3, 3, 3, 4])
        return "customer_phone\n" + "".join(f"+9198765{n:05}\n" for n in range(first, first + count))

    async def _upload(self, label: str, folder: Path, fate: str) -> None:
        name, content = self._files.setdefault(label, (self._dice.choice(NAMES), self._make_file()))
        path = folder / "contacts.csv"
        path.write_text(content)
        is_killed = fate.startswith("killed")
        finder = DeadFinder(self._database, self._client) if is_killed else self._finder
        uploader = Uploader(
            self._database, Sender(self._database, self._client, finder),
            ref_column=self._ref_column, regions=ANYWHERE,
        )  # fmt: skip
        self._sandbox.faults.next_upload = FATES[fate]
        before = set(self._sandbox.records.batches)
        asked = UploadRequest(agent_id=123, name=name, path=path, file_digest=label.encode(), force=True)
        task = asyncio.create_task(self._send(uploader, asked))
        await eventually(lambda: task.done() or (fate == "slow" and set(self._sandbox.records.batches) != before))
        for batch_id in set(self._sandbox.records.batches) - before:
            assert label not in self._owners.values(), f"{label} was sent twice"
            self._owners[batch_id] = label
        for row in await self._database.pool.fetch("SELECT batch_key FROM batches WHERE origin = 'upload'"):
            self._labels.setdefault(row["batch_key"], label)
        if fate == "slow":
            self._slow.append(task)
        if is_killed:
            await self._database.pool.execute(
                "UPDATE batches SET leased_until = now() - interval '1 s' WHERE upload_state = 'uploading' "
                "AND batch_key = (SELECT max(batch_key) FROM batches)"
            )
        await self._check()

    async def _send(self, uploader: Uploader, asked: UploadRequest) -> None:
        with contextlib.suppress(ApiError):
            batch = (await uploader.upload(asked)).batch
            assert self._owners.get(batch.id, asked.file_digest.decode()) == asked.file_digest.decode()
            self.seen["answered"] += 1

    async def _look_up(self) -> None:
        await self._database.pool.execute("UPDATE batches SET next_lookup_at = now() WHERE upload_state = 'unknown'")
        await UploadRecovery(self._database, self._finder).settle()

    async def _advance(self) -> None:
        await self._sandbox.advance(self._dice.choice([1, 90, 600, 5000]))

    async def _release(self) -> None:
        self._sandbox.faults.release()
        await asyncio.gather(*self._slow, return_exceptions=True)

    async def _expire(self) -> None:
        """Expires the leases of all uploads in flight, as if their owners had lost the database."""
        await self._database.pool.execute(
            "UPDATE batches SET leased_until = now() - interval '1 s' WHERE upload_state = 'uploading'"
        )
        await UploadRecovery(self._database, self._finder).settle()

    async def _send_webhooks(self) -> None:
        """Ingests the webhooks of some calls."""
        for batch_id in list(self._sandbox.records.batches):
            for recipient in self._sandbox.recipients(batch_id):
                token, _, number = recipient["call_parameters"].get("outcome_ref", "").partition("-")
                for attempt in recipient["attempts"]:
                    if attempt["status"] is None or self._dice.random() < 0.5:
                        continue
                    event = make_payload(
                        recipient=int(number) if number else None, ref_token=token, phone=recipient["phone"],
                        event_id=f"{batch_id}-{recipient['row']}-{attempt['number']}", attempt=attempt["number"],
                        status="busy", began=datetime.fromisoformat(attempt["started_at"] or attempt["dialled_at"]),
                        parameters={},
                    )  # fmt: skip
                    await ingest(self._database, *decode(event))

    async def _deny(self, folder: Path) -> None:
        """Resolves an unknown upload as not sent, as a person would, and repeats it if that is accepted."""
        unknown = await self._database.pool.fetch("SELECT batch_key FROM batches WHERE upload_state = 'unknown'")
        if not unknown:
            return
        key = self._dice.choice(unknown)["batch_key"]
        try:
            await self._resolver.declare_not_sent(key, None, accept_unreadable=False)
        except ConflictError:
            self.seen["not sent refused"] += 1
            return
        self.seen["not sent accepted"] += 1
        assert self._labels[key] not in self._owners.values(), f"{self._labels[key]} was sent"
        await self._upload(self._labels[key], folder, "answered")

    async def _name(self) -> None:
        """Resolves unknown uploads by naming the right batch, as a person would."""
        for key, label in self._labels.items():
            for batch_id in [batch_id for batch_id, owner in self._owners.items() if owner == label]:
                with contextlib.suppress(ApiError):
                    await self._resolver.adopt(key, batch_id, accept_difference=True)
                    self.seen["named"] += 1

    async def _check(self) -> None:
        for row in await self._database.pool.fetch("SELECT * FROM batches WHERE batch_id IS NOT NULL"):
            assert row["origin"] == "upload"
            assert self._owners.get(row["batch_id"]) == self._labels.get(row["batch_key"], None), dict(row)
            self.seen[f"known by {row['known_by']}"] += 1
        assert len(set(self._owners.values())) == len(self._owners)


@asynccontextmanager
async def provider() -> AsyncIterator[tuple[RunningSandbox, httpx.AsyncClient]]:
    options = SandboxOptions(api_keys=(KEY,), seed=1, rate_limit=100_000, first_batch_id=456)
    clock = SteppedClock(time.time(), allowance=0)
    async with serve_sandbox(options, clock=clock) as sandbox, open_http(sandbox.base_url, KEY) as http:
        yield sandbox, http


@pytest.mark.timeout(300)
async def test_no_upload_gets_the_batch_of_another_and_none_that_was_sent_is_taken_for_not_sent(
    database: Database, tmp_path: Path
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(HISTORIES):
        await database.pool.execute(f"TRUNCATE {', '.join(CLEARED)}")
        async with provider() as (sandbox, http):
            history = History(database, sandbox, http, seed)
            try:
                await history.run(tmp_path)
            except AssertionError as error:
                raise AssertionError(f"history {seed}: {error}") from error
        seen += history.seen
    for what in ("answered", "known by lookup", "known by answer", "known by person", "not sent refused",
                 "not sent accepted"):  # fmt: skip
        assert seen[what] > 3, seen

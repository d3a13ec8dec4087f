"""Plays a history against the real service: batches become known, events are delivered, conversations are walked.

All input goes through what the service itself calls (writer, registrar, healer, named queries), in any possible order:
an upload is stored before its own calls are reported, and a batch is known before its total moves, its CSV is
registered or it is seen finished.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import httpx

from service.formant.client import FormantClient
from service.formant.events import Event
from service.formant.wanted import Wanted
from service.outcomes.goals import GoalCounter, Subject, set_goal
from service.reconciliation.details import DetailsReader
from service.reconciliation.healer import HealedBatch, Healer, Progress
from service.store.database import Database, load_queries, open_unchecked_database
from service.telemetry.metrics import Metrics
from service.uploads.registration import Registrar
from service.webhooks.committer import Item
from service.webhooks.writer import Writer
from tests.factories import BEGAN, split_events
from tests.guarantees.histories import HOUR, Batch, History
from tests.reconciliation.walking import Provider

QUERIES = load_queries()
Step: TypeAlias = Callable[[], Awaitable[object]]


class Snapshot(NamedTuple):
    """The outcomes of a batch at some moment."""

    batch_key: int
    moment: datetime
    outcomes: list[Any]


class RememberingWriter(Writer):
    """Keeps the events that it writes; those of a walk are found nowhere else."""

    def __init__(self, url: str) -> None:
        super().__init__(url, QUERIES, Metrics())
        self.written: list[Event] = []

    async def write(self, items: Any) -> None:
        """Writes as the service does, and keeps the events."""
        self.written += [item for item in items if isinstance(item, Event)]
        await super().write(items)

    async def write_one(self, event: Event) -> bool:
        """Writes as the service does, and keeps the events."""
        self.written.append(event)
        return await super().write_one(event)


class Stage:
    """A database in which histories are played one after another."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queries, self.pool = database.queries, database.pool
        self.writer = RememberingWriter(database.url)
        self.registrar = Registrar(database, placed_events=3)  # few, so that most histories need several steps
        self.healer = Healer(database, self.writer, Metrics(), lambda: datetime.now(UTC))
        self.details = DetailsReader(database, self.healer.write, lambda: datetime.now(UTC))

    async def write(self, events: list[Item]) -> None:
        """Commits the events as one group."""
        await self.writer.write(events)

    async def upload(self, batch: Batch, agent: int) -> None:
        """Uploads a batch as the service does, step by step."""
        begun = await self.queries.begin_upload(
            self.pool, agent_id=agent, name=f"U{batch.batch_id}", columns=[], file_digest=str(batch.batch_id).encode(),
            ref_token=batch.token if batch.has_ref_column else None,
            ref_column="outcome_ref" if batch.has_ref_column else None,
            idempotency_key=None, request_digest=None, force=False, lease_seconds=600.0, test_name=None,
            test_ref_token=None, promote_at_success_rate=None, promote_at_goal_rate=None,
        )  # fmt: skip
        key = begun["batch_key"]
        await self.pool.execute("UPDATE batches SET prepared_at = $2 WHERE batch_key = $1", key, batch.existed_from)
        rows = batch.rows
        await self.pool.execute(
            "INSERT INTO recipients SELECT $1, n, phone, parameters::jsonb "
            "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS r (phone, parameters, n)",
            key, [row.phone for row in rows], [json.dumps(row.parameters) for row in rows],
        )  # fmt: skip
        await self.queries.record_prepared(
            self.pool, batch_key=key, state="prepared", recipient_count=len(rows), rows_checked=len(rows)
        )
        await self.queries.begin_sending(self.pool, batch_key=key, seconds=600.0)

    async def settle(self, batch: Batch, *, is_lost: bool) -> None:
        """Records the provider's answer to an upload: a refusal, or acceptance, which may first be lost."""
        key = await self.pool.fetchval(
            "SELECT batch_key FROM batches WHERE name = $1 AND batch_id IS NULL", f"U{batch.batch_id}"
        )
        if batch.plan.kind == "refused":
            state = await self.queries.fail_upload(
                self.pool, batch_key=key, states=["uploading"], detail="", known_by="answer", sent_at=None
            )
            assert state == "failed"
            return
        if is_lost:
            await self.queries.record_unknown(self.pool, batch_key=key, detail="", seconds=1e6, sent_at=None)
        adopted = await self.queries.adopt_batch(
            self.pool, batch_key=key, batch_id=batch.batch_id, status="pending", total_recipients=len(batch.rows),
            created_at=batch.created_at, rows=1000, known_by="lookup" if is_lost else "answer", sent_at=None,
            actor="", key_id=None, request_id=None, action="upload", details="{}",
        )  # fmt: skip
        assert adopted["batch_key"] == key

    async def note(self, batch: Batch, agent: int, total: int | None) -> None:
        """Notes a batch as the provider's list shows it."""
        await self.queries.note_batches(
            self.pool, batch_id=[batch.batch_id], agent_id=[agent], name=[f"D{batch.batch_id}"], status=["pending"],
            total_recipients=[total], created_at=[batch.created_at],
        )  # fmt: skip

    async def register(self, batch: Batch) -> None:
        """Registers the CSV of a batch as the service does once the file is read."""
        key, rows = await self.get_key(batch), batch.rows
        await self.queries.begin_registration(
            self.pool, batch_key=key, file_digest=b"", columns=["loan_id"], recipients=len(rows)
        )
        await self.pool.execute(
            "INSERT INTO staged_recipients SELECT $1, n, phone, parameters::jsonb "
            "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS r (phone, parameters, n)",
            key, [row.phone for row in rows], [json.dumps(row.parameters) for row in rows],
        )  # fmt: skip
        await self.registrar.finish(batch.batch_id)

    async def see(self, batch: Batch, at: datetime, *, is_finished: bool) -> None:
        """Records the provider's figures at a time, as a comparison does."""
        size = len(batch.rows)
        figures = {
            "in_progress_count": int(not is_finished), "pending_retry_count": 0, "total_recipients": size,
            "total_processed": size - int(not is_finished),
        }  # fmt: skip
        row = await self.queries.claim_batch(
            self.pool, batch_id=batch.batch_id, holder="test", lease_seconds=60.0, now=at
        )
        key, fence = row["batch_key"], row["fence"]
        await self.queries.record_snapshot(self.pool, batch_key=key, fence=fence, at=at, figures=json.dumps(figures))
        await self.queries.release_batch(self.pool, batch_key=key, fence=fence, due_at=at, retry_at=at)

    async def compare(self, batch: Batch) -> None:
        """Records the verdict on a batch: complete if our figures equal the provider's, which are the truth."""
        key = await self.get_key(batch)
        counted = await self.pool.fetch(
            "SELECT state, sum(recipients)::integer AS recipients FROM outcome_counts WHERE batch_key = $1 GROUP BY 1",
            key,
        )
        row = await self.queries.claim_batch(
            self.pool, batch_id=batch.batch_id, holder="test", lease_seconds=60.0, now=batch.ends_at
        )
        is_complete = batch.final_statuses == +Counter({row["state"]: row["recipients"] for row in counted})
        assert await self.queries.record_reconciliation(
            self.pool, batch_key=key, fence=row["fence"], at=batch.ends_at,
            verdict="complete" if is_complete else "drifted", reasons="[]", differences="[]", inconsistencies="[]",
            calls_spent=0, healed=0, due_at=batch.ends_at, verdict_text=None,
        )  # fmt: skip

    async def walk(self, history: History, *, may_retry: bool) -> None:
        """Heals each known batch from all conversations of the agent."""
        listed = [history.converse(call, n) for n, call in enumerate(history.calls)][::-1]
        transport = httpx.MockTransport(Provider(listed).answer)
        async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
            client = FormantClient(http, Metrics())
            rows = await self.pool.fetch(
                "SELECT batch_key FROM batches WHERE agent_id = $1 AND batch_id IS NOT NULL ORDER BY 1", history.agent
            )
            for (key,) in rows:
                batch = HealedBatch(key, history.agent, BEGAN - HOUR, may_retry)
                await self.healer.walk(client, batch, Progress(), _forget, set())
                await self.details.read(client, key, _go_on, seconds=3600)

    async def reclassify(self, history: History) -> None:
        """Applies the rules to the events that are there, as the service does when they are new."""
        found = {report.event.event_id: history.apply_rules(report.event) for report in history.reports}
        rows = await self.pool.fetch(
            "SELECT arrival_id, event_id FROM facts JOIN batches USING (batch_key) WHERE agent_id = $1 "
            "UNION ALL SELECT arrival_id, event_id FROM unattributed WHERE agent_id = $1 ORDER BY 1", history.agent,
        )  # fmt: skip
        known = [(row["arrival_id"], found[row["event_id"]]) for row in rows if row["event_id"] in found]
        ruled = [(arrival_id, event) for arrival_id, event in known if event.kind is not None]
        await self.queries.reclassify_calls(
            self.pool, arrival_ids=[arrival_id for arrival_id, _ in ruled], kinds=[event.kind for _, event in ruled],
            phones=[event.phone for _, event in ruled],
        )  # fmt: skip

    async def get_key(self, batch: Batch) -> int:
        """The key of a batch in the database."""
        key: int = await self.pool.fetchval("SELECT batch_key FROM batches WHERE batch_id = $1", batch.batch_id)
        return key

    async def take_snapshots(self, agent: int) -> list[Snapshot]:
        """The current outcomes of the agent's batches."""
        snapshots = []
        for (key,) in await self.pool.fetch("SELECT batch_key FROM batches WHERE agent_id = $1", agent):
            rows = await self.pool.fetch(
                "SELECT recipient_no, state, attempts, arrival_id FROM outcomes "
                "WHERE batch_key = $1 AND state NOT IN ('withdrawn', 'in_progress') ORDER BY 1", key,
            )  # fmt: skip
            snapshots.append(Snapshot(key, await self.pool.fetchval("SELECT clock_timestamp()"), rows))
        return snapshots

    async def read_as_of(self, then: Snapshot) -> list[Any]:
        """The same outcomes, as of that moment."""
        rows: list[Any] = await self.pool.fetch(
            "SELECT recipient_no, state, attempts, arrival_id "
            "FROM outcomes_as_of(array_fill($1::bigint, ARRAY[40]), ARRAY(SELECT generate_series(1, 40)), $2)",
            then.batch_key, then.moment,
        )  # fmt: skip
        return rows


def _describe(step: Step) -> str:
    if not isinstance(step, partial):
        return "take_snapshots"
    shown = [f"batch {each.index}" if isinstance(each, Batch) else each for each in step.args]
    return f"{step.func.__name__} {[each for each in shown if not isinstance(each, History)]} {step.keywords}"


async def _forget(progress: Progress) -> None:
    """Saves no progress: no other worker continues this walk."""


async def _go_on() -> None:
    """Holds no lease while details are read."""


class Performance:
    """One play of a history: its deliveries in some order, with all other steps in between."""

    def __init__(self, stage: Stage, history: History, dice: Random) -> None:
        self._stage = stage
        self._history = history
        self._dice = dice
        self.seen: list[Snapshot] = []
        self.story: list[str] = []
        """What happened, in order, for debugging a failure."""

    async def run(self) -> list[Event]:
        """Plays to the end; returns all events that were written."""
        self._stage.writer.written.clear()
        events = [report.event for report in self._history.reports]
        deliveries = events + [event for event in events if self._dice.random() < 0.2]
        self._dice.shuffle(deliveries)
        groups = list(split_events(deliveries, [self._dice.randint(1, 6), self._dice.randint(1, 6)]))
        agenda = self._plan(groups)
        changes = {self._dice.randint(0, len(groups)) for _ in range(self._dice.randint(0, 2))}
        begins = {"always": 0, "never": len(groups) + 1}  # the rules
        ruled = begins.get(self._history.plan.rules, self._dice.randint(0, len(groups)))
        for index in range(len(groups) + 1):
            if index in changes:
                await self._change_goal(f"change {index}")
            for step in agenda.get(index, ()):
                self.story.append(_describe(step))
                await step()
            if index == ruled:
                self.story.append("apply the rules")
                await self._stage.reclassify(self._history)
            if index < len(groups):
                self.story.append(f"deliver {[event.event_id for event in groups[index]]}")
                given = groups[index]
                await self._stage.write([*(map(self._history.apply_rules, given) if index >= ruled else given)])
        await self._finish()
        written = {event.event_id: event for event in self._stage.writer.written}
        return list(written.values())

    def _plan(self, groups: list[list[Event]]) -> dict[int, list[Step]]:
        """The steps before each group of deliveries, by its index."""
        tracks = [self._list_steps(batch, groups) for batch in self._history.batches]
        tracks.append([(self._dice.random(), self._take_snapshots)])
        tracks.append(
            [(at, partial(self._stage.walk, self._history, may_retry=at < 1)) for at in self._history.plan.walks]
        )
        agenda: dict[int, list[Step]] = {}
        self._dice.shuffle(tracks)
        for track in tracks:
            for place, step in track:
                agenda.setdefault(round(place * len(groups)), []).append(step)
        return agenda

    def _list_steps(self, batch: Batch, groups: list[list[Event]]) -> list[tuple[float, Step]]:
        """The steps of a batch, each with its point in the history, 0 to 1."""
        stage, agent, plan = self._stage, self._history.agent, batch.plan
        if batch.is_upload:
            own = self._find_first(batch, groups)
            sent = self._dice.random() * own
            # While an upload is in flight, no batch is taken for one made elsewhere.
            settled = self._dice.uniform(sent, 1) if all(other.is_upload for other in self._history.batches) else sent
            steps: list[tuple[float, Step]] = [
                (sent, partial(stage.upload, batch, agent)),
                (settled, partial(stage.settle, batch, is_lost=self._dice.random() < 0.3)),
            ]
        elif plan.discovered is None:
            return []
        else:
            places = sorted([plan.discovered, *(self._dice.random() for _ in batch.totals[1:])])
            steps = [
                (place, partial(stage.note, batch, agent, total))
                for place, total in zip(places, batch.totals, strict=True)
            ]
        known = steps[-1 if batch.is_upload else 0][0]
        places = sorted(self._dice.uniform(known, 1) for _ in batch.seen)
        for place, (at, is_finished) in zip(places, batch.seen, strict=True):
            steps.append((place, partial(stage.see, batch, at, is_finished=is_finished)))
        steps += [
            (self._dice.uniform(known, 1) if place < 1 else 1.0, partial(stage.compare, batch))
            for place in (plan.compared if plan.kind != "refused" else [])
        ]
        if not batch.is_upload and plan.registered is not None:
            steps.append((max(known, plan.registered), partial(stage.register, batch)))
        return sorted(steps, key=lambda step: step[0])

    def _find_first(self, batch: Batch, groups: list[list[Event]]) -> float:
        """The point in the history where the first of its calls is reported."""
        own = {
            report.event.event_id
            for report in self._history.reports
            if (owner := self._history.calls[report.call].owner) and owner.batch == batch.index
        }
        first = next((n for n, group in enumerate(groups) if any(event.event_id in own for event in group)), None)
        return 1.0 if first is None else first / len(groups)

    async def _change_goal(self, description: str) -> None:
        """Sets another goal, and perhaps begins to count the calls that are there."""
        self.story.append(description)
        wanted: list[Wanted] = [description, *self._dice.sample(["co", "bu", "no", "fa", "un", "heard"], 3)]
        await set_goal(self._stage.database, Subject(self._history.agent), {"intent": wanted})
        if self._dice.random() < 0.5:
            await GoalCounter(self._stage.database).finish()

    async def _take_snapshots(self) -> None:
        self.seen = await self._stage.take_snapshots(self._history.agent)

    async def _finish(self) -> None:
        """Does what the loops of the service would do in time, and checks the earlier outcomes."""
        async with asyncio.timeout(60):  # or events are moved to and fro for ever
            await self._stage.registrar.finish_all()
        for then in self.seen:
            assert await self._stage.read_as_of(then) == then.outcomes


@asynccontextmanager
async def open_stage(url: str) -> AsyncIterator[Stage]:
    """Opens a stage on its own database."""
    name = urlsplit(url).path[1:]
    connection = await asyncpg.connect(url)
    await connection.execute(
        f'ALTER DATABASE "{name}" SET synchronous_commit = off'
    )  # for speed: there are many commits, and no crash
    await connection.close()
    async with open_unchecked_database(
        url, connections=2, statement_seconds=30.0, application_name="outcomes"
    ) as database:
        stage = Stage(database)
        yield stage
        stage.writer.close()

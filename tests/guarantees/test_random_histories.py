"""Thousands of random histories of a batch, each with all that can happen to it, end as a plain in-memory oracle says.

A history has calls, whose conversation ids are kept over a recipient's attempts or new for each; a webhook for most of
them, in any order, some twice, some told again with another word; healing from the provider's conversations before or
after the webhooks; events that name their recipient by reference, by phone, or by the window of a batch made elsewhere;
and the CSV of that batch, registered anywhere in the middle.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.batches.registration import Registrar
from service.formant.conversations import decode_conversation, to_event
from service.formant.events import STATUSES, Event, EventDecoder
from service.formant.targets import Target
from service.ledger.writer import Writer
from service.metrics import Metrics
from service.store.database import Database, connect, load_queries
from tests.factories import BEGAN, RECEIVED, decode, make_payload
from tests.guarantees.oracle import Row, expect, place
from tests.guarantees.recount import read_state
from tests.guarantees.test_counted_once import ingest, normalise, split

EXAMPLES = 2000
QUERIES = load_queries()
_numbers = itertools.count(1)

calls = st.tuples(
    st.integers(0, 3),  # the row; the last is nobody's
    st.integers(1, 3),  # the attempt
    st.sampled_from(STATUSES[:4]),
    st.booleans(),  # final
    st.sampled_from(["reference", "phone", "phone alone"]),
    st.sampled_from(["told", "told", "told twice", "no number", "no times", "neither", "lost"]),
    st.sampled_from(["", "", "waits", "final", "both", "no start", "contradicts"]),  # as it was healed
)
histories = st.lists(calls, min_size=1, max_size=6)


class World(NamedTuple):
    """A batch among others: everything in it is its own, so that thousands share one database."""

    number: int
    kind: str
    keeps_ids: bool

    @property
    def is_elsewhere(self) -> bool:
        """Made in the dashboard; with a rival, another such batch of its agent turns up later."""
        return self.kind != "upload"

    @property
    def rows(self) -> list[Row]:
        """Its CSV: two rows share a phone."""
        phones = [f"+9170{self.number:06}1", f"+9170{self.number:06}2", f"+9170{self.number:06}2"]
        return [Row(phone, {"loan_id": f"LN-{n}"}) for n, phone in enumerate(phones)]

    @property
    def ref_token(self) -> str | None:
        return None if self.is_elsewhere else f"token{self.number}"

    def make_events(self, history: list[Any]) -> list[Event]:
        """All events that the calls give, in the order of the calls."""
        events = []
        for index, (row, attempt, status, final, way, telling, healing) in enumerate(history):
            phone = self.rows[row].phone if row < 3 else f"+9170{self.number:06}9"
            conversation = f"c{self.number}-{row}" + ("" if self.keeps_ids else f"_{attempt}")
            began = BEGAN + timedelta(minutes=20 * attempt)
            payload = make_payload(
                recipient=row + 1 if way == "reference" and row < 3 and not self.is_elsewhere else None,
                ref_token=self.ref_token or "", status=status, final=final,
                attempt=None if telling in {"no number", "neither"} else attempt,
                event_id=f"e{self.number}-{index}", conversation_id=conversation, phone=phone,
                parameters={} if way == "phone alone" or row == 3 else self.rows[row].parameters,
                agent_id=self.number, began=began, results={"intent": status[:2]}, duration_seconds=10 * attempt,
            )  # fmt: skip
            told = []
            if telling != "lost":
                if telling in {"no times", "neither"}:
                    payload["data"]["call"] |= {"started_at": None, "ended_at": None}
                told = decode(payload)
            if telling == "told twice":
                told += decode(payload | {"event_id": f"e{self.number}-{index}b", "event_type": "call.busy"})
            events += told + self._heal(conversation, phone, began, attempt, status, healing)
        return events

    def _heal(
        self, conversation: str, phone: str, began: datetime, attempt: int, status: str, healing: str
    ) -> list[Event]:
        start = round(began.timestamp() * 1000) + 1500 * (attempt == 2)  # the two do not always agree to the second
        record = {
            "agent_id": self.number, "contact_number": phone, "conversation_id": conversation,
            "duration_seconds": 10 * attempt, "start_timestamp": None if healing == "no start" else start,
            "end_timestamp": start + 10_000,
            "status": "completed" if healing == "contradicts" else status, "results": {"intent": "heard"},
        }  # fmt: skip
        found = decode_conversation(json.dumps({"data": record}).encode())
        if self.is_elsewhere and healing == "contradicts":  # only where the recipient is certain
            return []
        contradicted = (attempt, began + timedelta(minutes=1)) if healing == "contradicts" else None
        mays = {
            "waits": [True],
            "final": [False],
            "no start": [False],
            "both": [True, False],
            "contradicts": [False],
        }.get(healing, [])
        made = [to_event(found, received_at=RECEIVED, may_retry=may, contradicted=contradicted) for may in mays]
        return [event for event in made if event is not None]


class Play:
    """Plays histories on one connection."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self._connection = connection
        database = Database(url, connection, QUERIES)  # type: ignore[arg-type]  # the one connection is all its pool
        writer = Writer(url, QUERIES, Metrics())
        writer._connection = connection
        self._registrar = Registrar(database, {"default": Target("default", None)}, EventDecoder("outcome_ref"), writer)

    async def make_batch(self, world: World) -> int:
        rows = [] if world.is_elsewhere else world.rows
        key: int = await self._connection.fetchval(
            """
            WITH made AS (
                INSERT INTO batches (batch_id, agent_id, name, created_at, prepared_at, upload_state, ref_token,
                                     ref_column, columns, recipient_count, origin, is_registered)
                VALUES ($1, $1, '', $2, $2, 'uploaded', $3, 'outcome_ref', '{}', $4,
                        CASE WHEN $5 THEN 'provider' ELSE 'upload' END, NOT $5)
                RETURNING batch_key
            ), held AS (
                INSERT INTO recipients
                SELECT batch_key, n, phone, parameters::jsonb
                FROM made CROSS JOIN unnest($6::text[], $7::text[]) WITH ORDINALITY AS r (phone, parameters, n)
            )
            SELECT batch_key FROM made
            """,
            world.number, BEGAN - timedelta(hours=1), world.ref_token, len(rows), world.is_elsewhere,
            [row.phone for row in rows], [json.dumps(row.parameters) for row in rows],
        )  # fmt: skip
        return key

    async def register(self, batch_id: int, rows: list[Row]) -> None:
        """The CSV, as the service registers it once the file is read."""
        key = await self._connection.fetchval("SELECT batch_key FROM batches WHERE batch_id = $1", batch_id)
        await QUERIES.begin_registration(
            self._connection, batch_key=key, file_digest=b"", columns=["loan_id"], recipients=len(rows)
        )
        await self._connection.execute(
            "INSERT INTO staged_recipients SELECT $1, n, phone, parameters::jsonb "
            "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS r (phone, parameters, n)",
            key, [row.phone for row in rows], [json.dumps(row.parameters) for row in rows],
        )  # fmt: skip
        await self._registrar.finish(batch_id)

    async def discover(self, world: World) -> None:
        """Another batch of the agent, made while the calls went on."""
        await QUERIES.note_batches(
            self._connection, batch_id=[-world.number], agent_id=[world.number], name=["Rival"], status=["pending"],
            total_recipients=[1], created_at=[BEGAN + timedelta(minutes=30)],
        )  # fmt: skip
        await self._registrar.finish(-world.number)

    async def run(self, world: World, deliveries: list[Event], size: int, order: Any) -> None:
        """Deliveries in groups, and between them, anywhere, what else happens to the batch."""
        key = await self.make_batch(world)
        happenings: list[Callable[[], Awaitable[object]]] = []
        if world.kind == "rival":
            rival = [Row(f"+9170{world.number:06}8", {"loan_id": "LN-8"})]
            happenings = [lambda: self.discover(world), lambda: self.register(-world.number, rival)]
        if world.is_elsewhere:
            happenings.insert(order.randrange(len(happenings) + 1), lambda: self.register(world.number, world.rows))
        groups = list(split(deliveries, [size]))
        places = sorted(order.randrange(len(groups) + 1) for _ in happenings)
        looks_at = order.randrange(len(groups) + 1)
        noted = None
        for index in range(len(groups) + 1):
            if index == looks_at:
                noted = await self._look(key)
            for happening in [h for h, at in zip(happenings, places, strict=True) if at == index]:
                await happening()
            if index < len(groups):
                await ingest(self._connection, groups[index])
        await self._check(world, key, deliveries)
        assert noted is not None
        assert await self._look_back(key, noted[0]) == noted[1]

    async def _look(self, key: int) -> tuple[datetime, list[Any]]:
        """What is known now of each recipient, and when that is."""
        rows = await self._connection.fetch(
            """
            SELECT clock_timestamp(), o.recipient_no, o.state, o.attempts, o.arrival_id
            FROM (SELECT $1::bigint AS batch_key) AS b
            LEFT JOIN outcomes AS o ON o.batch_key = b.batch_key AND o.state <> 'withdrawn'
            ORDER BY 2
            """,
            key,
        )
        return max(row[0] for row in rows), [tuple(row)[1:] for row in rows if row[1] is not None]

    async def _look_back(self, key: int, moment: datetime) -> list[Any]:
        rows = await self._connection.fetch(
            "SELECT recipient_no, state, attempts, arrival_id "
            "FROM outcomes_as_of(array_fill($1::bigint, ARRAY[20]), ARRAY(SELECT generate_series(1, 20)), $2)",
            key, moment,
        )  # fmt: skip
        return [tuple(row) for row in rows]

    async def _check(self, world: World, key: int, deliveries: list[Event]) -> None:
        placed, strays = [], set()
        for event in deliveries:
            row = place(event, world.rows, world.ref_token)
            if row is None:
                strays.add(event.event_id)
            else:
                placed.append(event._replace(ref_no=row))
        expected = normalise(expect(placed))
        held = await self._connection.fetch(
            "SELECT recipient_no, phone, parameters FROM recipients WHERE batch_key = $1 AND withdrawn_at IS NULL", key
        )
        row_of = {r["recipient_no"]: world.rows.index(Row(r["phone"], json.loads(r["parameters"]))) + 1 for r in held}
        assert Counter(row_of.values()) == {1: 1, 2: 1, 3: 1}
        state = await read_state(self._connection, key)
        assert state._replace(outcomes={row_of[n]: o for n, o in state.outcomes.items()}) == expected
        waiting = await self._connection.fetch("SELECT event_id FROM unattributed WHERE agent_id = $1", world.number)
        assert {row["event_id"] for row in waiting} == strays


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs the examples of a property: hypothesis calls plain functions."""
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture
def play(runner: asyncio.Runner, template_clone: str) -> Iterator[Play]:
    connection = runner.run(connect(template_clone))
    runner.run(connection.execute("SET synchronous_commit = off"))  # thousands of commits, and no crash
    yield Play(template_clone, connection)
    runner.run(connection.close())


@pytest.mark.timeout(600)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
)
@given(
    history=histories,
    order=st.randoms(use_true_random=False),
    size=st.integers(1, 6),
    kind=st.sampled_from(["upload", "elsewhere", "rival"]),
    keeps_ids=st.booleans(),
)
def test_every_history_ends_as_the_oracle_says(
    runner: asyncio.Runner, play: Play, history: list[Any], order: Any, size: int, kind: str, keeps_ids: bool
) -> None:
    world = World(next(_numbers), kind, keeps_ids)
    events = world.make_events(history)
    deliveries = events + [event for event in events if order.random() < 0.3]
    order.shuffle(deliveries)
    runner.run(play.run(world, deliveries, size, order))

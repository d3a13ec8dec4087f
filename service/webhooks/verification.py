"""Verification. It recounts every outcome and counter from the facts, compares the facts with the raw bodies, and
compares the place of each event without a reference with the place it would get today.

It also checks the digests and signatures of all bodies, including unattributed and quarantined ones.

It runs while webhooks arrive: each batch is recounted as of one instant. It reports findings and changes nothing.
``Rebuilder`` repairs what can be derived from the facts. Nothing can repair a body that differs from its digest, a
signature that no secret produces, or a fact that differs from its body.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec

from service.errors import NotFoundError
from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.events import Event, EventDecoder, Unreadable
from service.store.database import Connection, Database
from service.webhooks.signatures import BodyCheck

RECOUNT_RECIPIENTS = 5000
PAGE_FACTS = 1000
PAGE_PHONES = 200
CHECKED_FIELDS = (
    "conversation_id", "attempt_number", "max_attempts", "status", "is_final", "next_retry_at", "occurred_at",
    "started_at", "ended_at", "duration_seconds", "failure_reason",
)  # fmt: skip

Report = Callable[[int], None]


class Discrepancy(NamedTuple):
    """Something that is wrong: the batch, the kind, the key, the stored value and the expected value.

    ``batch_key`` is None for what belongs to no batch.
    """

    batch_key: int | None
    what: str
    key: str
    stored: str
    expected: str
    is_pending: bool = False
    """The service is about to fix it by itself, so it does not count as a difference yet."""


class Verifier:
    """Verifies without changing anything. ``report`` receives the number of facts and recipients checked since its last
    call."""

    def __init__(
        self, database: Database, decoder: EventDecoder, bodies: BodyCheck, report: Report = lambda rows: None
    ) -> None:
        self._database = database
        self._decoder = decoder
        self._bodies = bodies
        self._report = report

    async def verify(self, batch_id: int | None = None) -> AsyncIterator[Discrepancy]:
        """What is wrong in one batch, or in all. Raises NotFoundError for an unknown batch."""
        batches = await list_batches(self._database, batch_id)
        for batch in batches:
            async for finding in self.verify_batch(batch):
                yield finding
        if batch_id is None:
            async for finding in self.verify_rest():
                yield finding
            return
        (one,) = batches
        places = partial(self._database.queries.check_places, batch_key=one["batch_key"])
        async for finding in check_places(self._database, places, self._report, agent_id=one["agent_id"]):
            yield finding

    async def verify_batch(
        self, batch: Any, note_revision: Report = lambda revision: None
    ) -> AsyncIterator[Discrepancy]:
        """What is wrong in a row of ``list_batch_keys``, apart from places. ``note_revision`` receives the revision of
        which this holds."""
        queries, pool = self._database.queries, self._database.pool
        key, count = batch["batch_key"], batch["recipient_count"]
        stored = await queries.count_recipients(pool, batch_key=key)
        if stored < count:
            yield Discrepancy(key, "recipients", "", str(stored), str(count))
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            note_revision(await queries.get_batch_revision(connection, batch_key=key))
            async for finding in self._recount(connection, key, count):
                yield finding
        async for finding in self._check_facts(key):
            yield finding

    async def verify_rest(self) -> AsyncIterator[Discrepancy]:
        """What is wrong outside batches, and events without a reference that belong elsewhere."""
        queries, pool = self._database.queries, self._database.pool
        places = partial(queries.check_places, batch_key=None)
        async for finding in check_places(self._database, places, self._report):
            yield finding
        async for row in queries.list_other_call_errors(pool):
            name = f"agent {row['agent_id']} {row['kind']} {row['day']} {row['status']}"
            yield Discrepancy(None, "other_call_counts", name, str(row["stored"]), str(row["recounted"]))
        for name, key in (
            ("list_waiting_bodies", "arrival_id"),
            ("list_other_bodies", "arrival_id"),
            ("list_quarantined_bodies", "quarantine_id"),
        ):
            async for page in read_pages(partial(getattr(queries, name), pool), after=key):
                for finding in self.check_bodies(page, key):
                    yield finding

    async def _recount(self, connection: Connection, key: int, count: int) -> AsyncIterator[Discrepancy]:
        queries = self._database.queries
        async for after, rows in recount(self._database, connection, key, count):
            self._report(min(RECOUNT_RECIPIENTS, count - after))
            for row in rows:
                yield Discrepancy(key, "outcome", str(row["recipient_no"]), row["stored"] or "", row["recounted"] or "")
        async for row in queries.list_counter_errors(connection, batch_key=key):
            name = " ".join(part for part in (row["a"], row["b"], row["c"]) if part)
            yield Discrepancy(key, row["counter"], name, row["stored"], row["recounted"])

    async def _check_facts(self, key: int) -> AsyncIterator[Discrepancy]:
        async for page in read_facts(self._database, key):
            for finding in self.check_facts(page):
                yield finding

    def check_facts(self, page: Sequence[Any]) -> Iterator[Discrepancy]:
        """What is wrong with rows of ``list_facts_with_bodies``."""
        for row in page:
            for what, stored, expected in self._find_flaws(row):
                yield Discrepancy(row["batch_key"], what, row["event_id"], stored, expected)
        self._report(len(page))

    def check_bodies(self, page: Sequence[Any], name: str) -> Iterator[Discrepancy]:
        """What is wrong with bodies that belong to no batch; ``name`` is the column of their key."""
        for row in page:
            if (flaw := self._bodies.find_flaw(row)) is not None:
                yield Discrepancy(None, flaw.what, f"{name} {row[name]}", flaw.stored, flaw.expected)
        self._report(len(page))

    def _find_flaws(self, row: Any) -> list[tuple[str, str, str]]:
        """As ``_check_fact``. A row that cannot be checked is a flaw too, and does not end the run."""
        try:
            return self._check_fact(row)
        except Exception as error:
            return [("fact", f"cannot be checked ({type(error).__name__})", "readable")]

    def _check_fact(self, row: Any) -> list[tuple[str, str, str]]:
        """What differs between a fact, its event and its body. Of the body it contains only field names."""
        flaw = self._bodies.find_flaw(row)
        if flaw is not None and flaw.what != "signature":
            return [flaw]
        flaws: list[tuple[str, str, str]] = [] if flaw is None else [flaw]
        if row["lacks_evidence"]:
            flaws.append(("placement", "without its evidence", "run `outcomes reattribute` once"))
        # A body may no longer be kept. A conversation's fact depends on when it was healed.
        if row["body"] is None or row["target"] == CONVERSATIONS:
            return flaws
        event = self._decoder.decode_event(row["body"], row["target"], row["received_at"], None)
        if isinstance(event, Unreadable):
            return [*flaws, ("body", "cannot be read", "an event")]
        if row["method"] == "reference" and (event.ref_token, event.ref_no) != (row["ref_token"], row["recipient_no"]):
            flaws.append(("placement", "by reference", "the recipient that its reference names"))
        return [*flaws, *[("fact", name, "as in its body") for name in _find_differing(row, event)]]


async def read_pages(query: Callable[..., Any], **columns: str) -> AsyncIterator[list[Any]]:
    """The rows of a query in pages. ``columns`` maps each argument that positions a page to the column it continues
    from."""
    position: dict[str, Any] = dict.fromkeys(columns, 0)
    while True:
        page = [row async for row in query(**position, limit=PAGE_FACTS)]
        yield page
        if len(page) < PAGE_FACTS:
            return
        position = {argument: page[-1][column] for argument, column in columns.items()}


def read_facts(database: Database, key: int) -> AsyncIterator[list[Any]]:
    """The facts of a batch with their bodies, in pages."""
    query = partial(database.queries.list_facts_with_bodies, database.pool, batch_key=key)
    return read_pages(query, after_recipient="recipient_no", after_arrival="arrival_id")


async def check_places(
    database: Database, query: Any, report: Report, *, agent_id: int | None = None
) -> AsyncIterator[Discrepancy]:
    """Events without a reference that are not where they belong today, from the agent ``agent_id`` on. ``query`` finds
    them and may also move them."""
    agent_id, phone = -(2**63) if agent_id is None else agent_id, ""
    while True:
        rows = [row async for row in query(database.pool, agent_id=agent_id, phone=phone, keys=PAGE_PHONES)]
        for finding in read_places(rows):
            yield finding
        report(len(rows))
        if not rows:
            return
        agent_id, phone = rows[-1]["agent_id"], rows[-1]["phone"]


def read_places(rows: Sequence[Any]) -> Iterator[Discrepancy]:
    """The findings in rows of ``check_places``."""
    for row in rows:
        if row["event_id"] is not None:
            stored = _describe_place(row["at_batch"], row["at_recipient"], "unattributed")
            expected = _describe_place(row["batch_key"], row["recipient_no"], row["reason"])
            pending = " (about to be attributed)" if row["is_pending"] else ""
            key = row["at_batch"] or row["batch_key"]
            yield Discrepancy(key, "placement", row["event_id"], stored, expected + pending, row["is_pending"])


def _describe_place(batch_key: int | None, recipient: int | None, reason: str | None) -> str:
    if batch_key is None:
        return reason or "unattributed"
    return f"upload {batch_key}, " + (f"recipient {recipient}" if recipient and recipient > 0 else "a new recipient")


async def list_batches(database: Database, batch_id: int | None) -> list[Any]:
    """One batch by the provider's id, or all. Raises NotFoundError for an unknown batch."""
    rows = [row async for row in database.queries.list_batch_keys(database.pool, batch_id=batch_id)]
    if batch_id is not None and not rows:
        raise NotFoundError(f"There is no batch {batch_id}")
    return rows


async def recount(
    database: Database, connection: Connection, key: int, count: int
) -> AsyncIterator[tuple[int, list[Any]]]:
    """Recounts a batch in the transaction of ``connection``. Yields, for each range of recipients, the number before
    the range and the wrong outcomes in it."""
    queries = database.queries
    await queries.begin_recount(connection)
    for after in range(0, count, RECOUNT_RECIPIENTS):
        steps = queries.recount_step(connection, batch_key=key, after=after, limit=RECOUNT_RECIPIENTS, as_of=None)
        yield after, [row async for row in steps]


def _find_differing(row: Any, event: Event) -> list[str]:
    names = [name for name in CHECKED_FIELDS if row[name] != getattr(event, name)]
    # Null: from before they were stored, until the service has filled them.
    names += [name for name in ("from_phone", "trace_id") if row[name] not in {None, getattr(event, name)}]
    if not _are_same(row["results"], event.results):
        names.append("results")
    return names


def _are_same(stored: str, received: str) -> bool:
    """Whether two JSON texts have equal values."""
    with contextlib.suppress(msgspec.MsgspecError):
        if msgspec.json.decode(stored) == msgspec.json.decode(received):
            return True
    # Postgres writes 1e23 as 100000000000000000000000, which is another double.
    first, second = (json.loads(text, parse_int=Decimal, parse_float=Decimal) for text in (stored, received))
    return bool(first == second)

"""Evidence for and against a batch being an upload: the provider's list, its conversations, and webhooks."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from service.formant.batches import ProviderBatch
from service.formant.client import FormantClient
from service.formant.listing import PAGE_ROWS
from service.formant.regions import Regions
from service.store.database import Database
from service.uploads.matching import CLOCK_SLACK, PEOPLE_OF_PROOF, Contender, Listed

MAX_PAGES = 10
"""Pages of conversations: enough to see who is being called, whatever else the agent does."""


class KnownBatch(NamedTuple):
    """A batch that is known here: its upload (None: it was made elsewhere), and how that is known."""

    upload_id: int | None
    known_by: str | None


class Evidence(NamedTuple):
    """An upload, the rivals that may have become the ``free`` batches instead, and what is known of the others."""

    upload: Contender
    rivals: list[Contender]
    agent_id: int
    listed: list[Listed]
    unreadable: list[Listed]
    """Entries of the list without a usable id: any of them could be a batch of the agent."""
    answers: dict[int, ProviderBatch]
    """The listed batches as the provider sent them, by id."""
    known: dict[int, KnownBatch]
    is_known_sent: bool
    """Webhooks with its references have come in."""
    has_calls: bool
    """Calls were attributed to it, by phone at least."""
    called_people: int = 0
    """Phones called since that are in this upload alone."""
    is_contradicted: bool = False

    @property
    def free(self) -> list[Listed]:
        return [batch for batch in self.listed if batch.id not in self.known]


async def gather_evidence(database: Database, client: FormantClient, batch_key: int) -> Evidence:
    """The evidence on an upload from the provider's list and from webhooks; raises ProviderError.

    The list is read first. An upload is committed as being sent before the provider can list its batch, so the upload
    behind every listed batch is visible afterwards.
    """
    agent_id = await database.queries.get_upload_agent(database.pool, batch_key=batch_key)
    answers, odd = await client.list_batches(agent_id)
    listed = [Listed.read(answers[batch_id]) for batch_id in sorted(answers)]
    rows = database.queries.select_known_batches(database.pool, batch_ids=list(answers))
    known = {row["batch_id"]: KnownBatch(row["upload_id"], row["known_by"]) async for row in rows}
    contenders = [row async for row in database.queries.list_contenders(database.pool, batch_key=batch_key)]
    (own,) = (row for row in contenders if row["batch_key"] == batch_key)
    return Evidence(
        _read_contender(own),
        [_read_contender(row) for row in contenders if row is not own],
        agent_id,
        [batch for batch in listed if batch.agent_id in {None, agent_id}],
        [Listed.read(entry) for entry in odd if entry.agent_id in {None, agent_id}],
        answers,
        known,
        is_known_sent=own["first_call_at"] is not None,
        has_calls=own["has_calls"],
    )


async def add_calls(
    database: Database, client: FormantClient, evidence: Evidence, batches: Sequence[Listed], regions: Regions
) -> Evidence:
    """The evidence, with what the agent's conversations show since the first of ``batches`` was made, or else since the
    upload was sent; raises ProviderError."""
    times = [batch.created_at for batch in batches if batch.created_at is not None]
    begin = min(times, default=None) or evidence.upload.sent_at
    since = begin - CLOCK_SLACK if begin is not None else None
    calls = await _read_calls(client, evidence.agent_id, since, regions.find(evidence.agent_id))
    contenders = [evidence.upload, *evidence.rivals]
    found = await database.queries.find_callers(
        database.pool,
        agent_id=evidence.agent_id,
        batch_keys=[contender.key for contender in contenders],
        phone=[phone for phone, _ in calls],
        started_at=[started_at for _, started_at in calls],
        people=PEOPLE_OF_PROOF,
    )
    # Webhooks with its references are proof and take precedence. Phones are proof only when there are several.
    upload, *rivals = (
        contender if contender.first_call_at else contender._replace(first_call_at=proven_at)
        for contender, proven_at in zip(contenders, found["proven_at"], strict=True)
    )
    has_strangers_only = found["its_people"][0] == 0 and found["strangers"] > 0
    return evidence._replace(
        upload=upload,
        rivals=rivals,
        called_people=found["called"][0],
        is_contradicted=has_strangers_only and not evidence.is_known_sent,
    )


def _read_contender(row: asyncpg.Record) -> Contender:
    return Contender(
        key=row["batch_key"],
        name=row["name"],
        recipients=row["recipients"],
        sent_at=row["sent_at"],
        is_sending=row["state"] == "uploading",
        first_call_at=row["first_call_at"],
    )


async def _read_calls(
    client: FormantClient, agent_id: int, since: datetime | None, region: str
) -> list[tuple[str, datetime]]:
    """The phones that the agent called since then, and when, from at most ``MAX_PAGES`` pages."""
    calls: list[tuple[str, datetime]] = []
    offset = 0
    for _ in range(MAX_PAGES):
        page = await client.list_conversations(agent_id, PAGE_ROWS, offset)
        recent = [
            record
            for record in page.data
            if record.started_at is not None
            and (since is None or record.started_at >= since)
            and record.agent_id in {None, agent_id}
        ]
        calls += [
            (phone, record.started_at)
            for record in recent
            if record.started_at is not None and (phone := record.read_phone(region)) is not None
        ]
        offset += len(page.keys)
        if not recent or len(page.keys) < PAGE_ROWS or page.has_more is False:
            break
    return calls

"""Reattribution: attributes all events without a reference again, by the rule for new events.

The service does this by itself whenever something changes. This run is for events attributed by earlier versions, which
stored no evidence: it reads the evidence from the bodies still kept. Another run completes one that was killed.
"""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.conversations import restore_event
from service.formant.events import ANYWHERE, Event, EventDecoder, Unreadable
from service.formant.regions import Regions
from service.formant.targets import Target
from service.store.database import Database
from service.webhooks.verification import Discrepancy, Report, check_places, list_batches, read_facts, read_pages
from service.webhooks.writer import Writer


class Reattributor:
    """Attributes events again. ``report`` receives the number of facts and phones checked since its last call."""

    def __init__(
        self,
        database: Database,
        targets: Mapping[str, Target],
        decoder: EventDecoder,
        writer: Writer,
        report: Report = lambda rows: None,
        *,
        regions: Regions = ANYWHERE,
    ) -> None:
        self._database = database
        self._targets = targets
        self._decoder = decoder
        self._writer = writer
        self._report = report
        self._regions = regions

    async def reattribute(self) -> AsyncIterator[Discrepancy]:
        """Attributes events again; yields each event that moved."""
        for batch in await list_batches(self._database, None):
            await self._add_evidence(batch["batch_key"])
        await self._ingest_waiting()
        async for finding in check_places(self._database, self._database.queries.replace_places, self._report):
            yield finding

    async def _add_evidence(self, key: int) -> None:
        async for page in read_facts(self._database, key):
            lacking = [row for row in page if row["lacks_evidence"]]
            if lacking:
                await self._database.queries.add_evidence(
                    self._database.pool,
                    arrival_ids=[row["arrival_id"] for row in lacking],
                    parameters=[self._read_parameters(row) for row in lacking],
                )
            self._report(len(page))

    async def _ingest_waiting(self) -> None:
        """Ingests waiting events again that were stored without their content by an older version, and those with a
        reference, which may have arrived while its column was not read."""
        query = partial(self._database.queries.list_waiting_bodies, self._database.pool)
        async for page in read_pages(query, after="arrival_id"):
            events = [
                event
                for row in page
                if row["body"] is not None
                and (event := self._decode(row)) is not None
                and (row["source"] is None or event.ref_token is not None)
            ]
            if events:
                await self._writer.write(events)
            self._report(len(page))

    def _read_parameters(self, row: Any) -> str | None:
        """The call parameters in a fact's body; None for a conversation or a body no longer kept."""
        if row["body"] is None or row["target"] in {None, CONVERSATIONS}:
            return None
        event = self._decoder.decode_event(row["body"], row["target"], row["received_at"], None)
        return None if isinstance(event, Unreadable) else event.parameters

    def _decode(self, row: Any) -> Event | None:
        if row["target"] == CONVERSATIONS:
            return restore_event(
                row["body"],
                row["event_id"],
                agent_id=row["agent_id"],
                received_at=row["received_at"],
                region=self._regions.find(row["agent_id"]),
            )
        target = self._targets.get(row["target"])
        if target is None:  # without its target, its list of allowed agents is unknown
            return None
        item = target.admit(self._decoder.decode_event(row["body"], row["target"], row["received_at"], None))
        return None if isinstance(item, Unreadable) else item

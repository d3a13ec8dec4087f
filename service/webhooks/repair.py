"""Repairs what older versions stored: implausible times and numbers (``formant/plausible.py``), and calls without their
caller number and trace id, which are read from the bodies that are still kept.

A fact whose body is kept becomes what the body decodes to today, so that ``outcomes verify`` finds them equal. A fact
without a body loses its implausible fields. Each step is bounded, committed and safe to repeat, so a killed repair
resumes where it stopped. The repair runs when the service starts; later runs only read facts added since.
"""

import asyncio
from typing import Any

import structlog

from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.conversations import find_trace_id
from service.formant.events import EventDecoder, Unreadable, is_final
from service.formant.plausible import plausible_attempts, plausible_duration, plausible_time
from service.store.database import Database

logger = structlog.get_logger()

NAME = "implausible_facts"
DETAILS = "call_details"
PAGE_FACTS = 5000
PAGE_BODIES = 500
"""Where most facts of a page are read with their bodies."""
FACTS_PER_COMMIT = 200
"""Facts per commit. Webhooks wait for the ingest lock meanwhile, a few hundredths of a second."""
RECIPIENTS_PER_COMMIT = 1000
"""Recipients whose calls are counted in one commit."""
PAGES_PER_COMMIT = 16
"""Pages of some 50 events, which are dated in one commit."""
RETRY_SECONDS = 30.0
TIMES = ("next_retry_at", "occurred_at", "started_at", "ended_at")
FIELDS = (*TIMES, "duration_seconds", "attempt_number", "max_attempts", "is_final", "from_phone", "trace_id")


class Repairer:
    """Repairs stored facts and batches."""

    def __init__(self, database: Database, decoder: EventDecoder) -> None:
        self._database = database
        self._decoder = decoder

    async def run(self) -> None:
        """Repairs once; after a failure it resumes where it stopped."""
        while True:
            try:
                corrected = await self.repair()
            except Exception:
                logger.warning("repair_failed", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if corrected:
                logger.info("repair_finished", count=corrected)
            return

    async def repair(self) -> int:
        """Repairs everything; returns the number of corrected rows."""
        queries, pool = self._database.queries, self._database.pool
        corrected = 0
        while changed := await queries.correct_stored_times(pool, limit=FACTS_PER_COMMIT):
            corrected += changed
        corrected += await self._repair_facts(NAME, queries.list_implausible_facts, PAGE_FACTS)
        while await queries.count_calls_step(pool, recipients=RECIPIENTS_PER_COMMIT) is not None:
            pass
        while await queries.date_events_step(pool, pages=PAGES_PER_COMMIT) is not None:
            pass
        await self._fill_waiting()
        return corrected + await self._repair_facts(DETAILS, queries.list_facts_without_details, PAGE_BODIES)

    async def _repair_facts(self, name: str, find: Any, limit: int) -> int:
        """Corrects the facts that ``find`` lists, from the cursor of the repair ``name`` on."""
        queries, pool = self._database.queries, self._database.pool
        corrected = 0
        after = await queries.get_repair_cursor(pool, name=name) or 0
        while (until := await queries.find_facts_end(pool, after=after, limit=limit)) is not None:
            changed = await self._repair_page(find, after, until)
            await queries.save_repair(pool, name=name, cursor=until, corrected=changed)
            corrected, after = corrected + changed, until
        return corrected

    async def _fill_waiting(self) -> None:
        """Fills unattributed events: later they become facts with arrival ids that the cursor has passed."""
        queries, pool = self._database.queries, self._database.pool
        after = 0
        while page := [row async for row in queries.list_waiting_without_details(pool, after=after, limit=PAGE_BODIES)]:
            after = page[-1]["arrival_id"]
            found = [(row["arrival_id"], *self._read_details(row)) for row in page if row["body"] is not None]
            if found:
                arrival_ids, from_phones, trace_ids = zip(*found, strict=True)
                await queries.fill_waiting_details(
                    pool, arrival_ids=arrival_ids, from_phones=from_phones, trace_ids=trace_ids
                )

    def _read_details(self, row: Any) -> tuple[str | None, str | None]:
        """Caller number and trace id in a row's body."""
        if row["target"] == CONVERSATIONS:
            return None, find_trace_id(row["body"])
        event = self._decoder.decode_event(row["body"], row["target"], row["received_at"], None)
        return (None, None) if isinstance(event, Unreadable) else (event.from_phone, event.trace_id)

    async def _repair_page(self, find: Any, after: int, until: int) -> int:
        queries, pool = self._database.queries, self._database.pool
        found = [row async for row in find(pool, after=after, until=until)]
        corrected = 0
        for first in range(0, len(found), FACTS_PER_COMMIT):
            rows = found[first : first + FACTS_PER_COMMIT]
            facts = [self._correct(row) for row in rows]
            corrected += await queries.correct_facts(
                pool,
                arrival_id=[row["arrival_id"] for row in rows],
                **{name: [fact[name] for fact in facts] for name in FIELDS},
            )
        return corrected

    def _correct(self, row: Any) -> dict[str, Any]:
        """The fields of a fact as this version would have stored them."""
        if row["body"] is not None and row["target"] != CONVERSATIONS:
            event = self._decoder.decode_event(row["body"], row["target"], row["received_at"], None)
            if not isinstance(event, Unreadable):
                return {name: getattr(event, name) for name in FIELDS}
        fact: dict[str, Any] = {
            **{name: plausible_time(row[name]) for name in TIMES},
            "duration_seconds": plausible_duration(row["duration_seconds"]),
            "attempt_number": plausible_attempts(row["attempt_number"]),
            "max_attempts": plausible_attempts(row["max_attempts"]),
            "is_final": row["is_final"],
            "from_phone": row["from_phone"],
            "trace_id": row["trace_id"] if row["body"] is None else find_trace_id(row["body"]),
        }
        if row["source"] == "healed":
            fact["occurred_at"] = fact["occurred_at"] or fact["ended_at"] or fact["started_at"]
        if not row["is_final"] and row["next_retry_at"] is not None and fact["next_retry_at"] is None:
            # `is_final_attempt` is not stored; False is assumed.
            fact["is_final"] = is_final(row["status"], False, None)
        return fact

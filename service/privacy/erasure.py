"""Erasure of one person by phone, in small committed steps. Any replica can continue it, even after ``kill -9``.

``sql/functions/35_erase_recipients.sql`` says what is erased and what stays counted, ``36_erase_callers.sql`` the same
where the person made the call; ``50_erase.sql`` and ``50_erase_named.sql`` say how. Recipients are found by index. All
stored bodies are read one by one, because the body of another person's call may name this person too, and with them the
numbers that calls were made from; the ingest lock is not held meanwhile.
A held file that contains the person is rewritten without their rows, so a promotion does not dial them.
"""

import asyncio
from pathlib import Path
from typing import Any

import structlog

from service.background import every
from service.errors import NotFoundError
from service.phones.bodies import calling_code, names_phone
from service.store.database import Database
from service.telemetry.context import current_actor, current_request_id
from service.uploads.folders import make_folder
from service.uploads.storing import rewrite_held_file

logger = structlog.get_logger()

STEP_ROWS = 100
SEARCH_ROWS = 500
SEARCH_BYTES = 8 * 2**20
SEARCHING = {"unattributed", "quarantine", "bodies"}
MAX_LISTED = 100
INTERVAL_SECONDS = 5.0


class Eraser:
    """Erases people, and continues what other replicas began."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def preview(self, phone: str) -> dict[str, Any]:
        """Counts what an erasure would remove. Changes nothing."""
        return dict(await self._database.queries.preview_erasure(self._database.pool, phone=phone))

    async def begin(self, phone: str) -> int:
        """Records the erasure of a person; returns its id. From its commit on, no new data of the person is let in."""
        actor = current_actor()
        erasure_id: int = await self._database.queries.begin_erasure(
            self._database.pool, phone=phone, actor=actor.name, key_id=actor.key_id, request_id=current_request_id()
        )
        return erasure_id

    async def finish(self, erasure_id: int) -> dict[str, Any]:
        """Takes all steps that are possible now; returns the progress like ``read``."""
        while await self.take_step(erasure_id):
            pass
        return await self.read(erasure_id)

    async def take_step(self, erasure_id: int) -> bool:
        """Takes the next step, if one is possible; returns whether another one may follow now."""
        queries, pool = self._database.queries, self._database.pool
        work = await queries.get_erasure_work(pool, erasure_id=erasure_id)
        step = work["step"] if work else "done"
        if step in SEARCHING:
            await self._search(erasure_id, work)
            return True
        if step == "held":
            return await self._rewrite_held(erasure_id)
        if step == "done":
            return False
        step = await queries.erase_step(pool, erasure_id=erasure_id, rows=STEP_ROWS)
        if step == "finished":
            logger.info("person_erased")
        return step not in {"late", "finished"}

    async def _search(self, erasure_id: int, work: Any) -> None:
        """Reads the next bodies of a step, and erases those that name the person."""
        queries, pool, phone = self._database.queries, self._database.pool, work["phone"]
        await queries.note_calling_code(pool, calling_code=calling_code(phone))
        page = [
            row
            async for row in queries.read_unsearched(
                pool, step=work["step"], after=work["cursor"], rows=SEARCH_ROWS, bytes=SEARCH_BYTES
            )
        ]
        named, callers = await asyncio.to_thread(_find_named, page, phone)
        await queries.erase_named(
            pool,
            erasure_id=erasure_id,
            step=work["step"],
            after=work["cursor"],
            last=page[-1]["id"] if page else None,
            named=named,
            read=sum(row["body"] is not None for row in page),
            callers=callers,
        )

    async def read(self, erasure_id: int) -> dict[str, Any]:
        """The progress of an erasure: counts, and nothing that identifies the person. Raises NotFoundError."""
        row = await self._database.queries.get_erasure(self._database.pool, erasure_id=erasure_id)
        if row is None:
            raise NotFoundError(f"There is no erasure {erasure_id}")
        shown = dict(row)
        step = shown.pop("step")
        del shown["actor"], shown["key_id"]
        return {"state": "done" if step == "done" else "running", "step": step, **shown}

    async def finish_all(self) -> None:
        rows = self._database.queries.list_unfinished_erasures(self._database.pool, limit=MAX_LISTED)
        for erasure_id in [row["erasure_id"] async for row in rows]:
            await self.finish(erasure_id)

    async def run(self) -> None:
        await every(INTERVAL_SECONDS, self.finish_all, "erasure_failed")

    async def _rewrite_held(self, erasure_id: int) -> bool:
        """Removes the person from the files of held batches and from rejected rows; returns False while one of these
        files is being promoted, or a file that may hold the person is being checked."""
        queries, rows = self._database.queries, 0
        work = await queries.get_erasure_work(self._database.pool, erasure_id=erasure_id)
        if work["is_checking"]:
            return False
        rows += await self._delete_rejected(work["phone"])
        batches = [row async for row in queries.list_held_batches(self._database.pool, erasure_id=erasure_id)]
        for batch in batches:
            batch_key = batch["batch_key"]
            with make_folder() as folder:
                async with self._database.pool.acquire() as connection, connection.transaction():
                    upload = await queries.lock_upload(connection, batch_key=batch_key)
                    if upload is None or upload["upload_state"] == "prepared":
                        return False
                    phones = {batch["phone"]}
                    rows += await rewrite_held_file(self._database, connection, batch_key, phones, Path(folder))
                    if upload["upload_state"] == "held":
                        await queries.withdraw_held_recipients(connection, batch_key=batch_key, erasure_id=erasure_id)
        await queries.end_held_step(self._database.pool, erasure_id=erasure_id, rows=rows)
        return True

    async def _delete_rejected(self, phone: str) -> int:
        """Deletes the rejected rows that name the person."""
        queries, pool, deleted = self._database.queries, self._database.pool, 0
        after, row_no = 0, 0
        while True:
            page = [row async for row in queries.read_rejected_rows(pool, after=after, row_no=row_no, rows=SEARCH_ROWS)]
            if not page:
                return deleted
            named = await asyncio.to_thread(_find_rejected, page, phone)
            for batch_key, number in named:
                await queries.delete_rejected_row(pool, batch_key=batch_key, row_no=number)
            deleted += len(named)
            after, row_no = page[-1]["batch_key"], page[-1]["row_no"]


def _find_named(page: list[Any], phone: str) -> tuple[list[int], list[int]]:
    """The events of a page that name the person, and those of them whose call was made from the phone."""
    callers = [row["id"] for row in page if names_phone((row["from_phone"] or "").encode(), phone)]
    made = set(callers)
    named = [
        row["id"]
        for row in page
        if row["id"] in made or row["phone"] == phone or names_phone(row["body"] or b"", phone)
    ]
    return named, callers


def _find_rejected(page: list[Any], phone: str) -> list[tuple[int, int]]:
    return [(row["batch_key"], row["row_no"]) for row in page if names_phone(row["line"].encode(), phone)]

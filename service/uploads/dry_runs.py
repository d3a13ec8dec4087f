"""Dry runs: what an upload would do, and the rows that it would leave out. They change nothing."""

import asyncio
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import asyncpg

from service.errors import InvalidRequestError, NotFoundError
from service.store.database import Database
from service.uploads.contacts import check_contacts
from service.uploads.file_checks import CALLED_WITHIN, FileChecker
from service.uploads.folders import make_folder
from service.uploads.guarding import guard
from service.uploads.report import ERROR_COLUMN, ContactsReport, Rejected
from service.uploads.storing import UploadRequest
from service.uploads.writers import MAX_ROW_CHARACTERS, write_line


class Checked(NamedTuple):
    """The report on a file, why its columns would be refused, why its agent may be a wrong one, and the upload that it
    would repeat, if any."""

    report: ContactsReport
    refusal: str | None
    doubt: str | None
    earlier: asyncpg.Record | None


class DryRuns:
    """Checks files without an upload."""

    def __init__(self, database: Database, checker: FileChecker) -> None:
        self._database = database
        self._checker = checker

    async def check(self, request: UploadRequest) -> Checked:
        """Raises InvalidRequestError for a file that cannot be read as a table of contacts."""
        called_within = request.called_within or request.skip_called_within or CALLED_WITHIN
        source = await self._checker.open(request)
        with make_folder() as folder:
            report = await self._checker.check_people(
                request,
                source,
                Path(folder),
                await self._checker.find_last_suppression(),
                called_within=called_within,
            )
        refusal = None
        try:
            await self._checker.check_columns(request, report.columns)
        except InvalidRequestError as error:
            refusal = error.message
        doubt = await self._doubt_agent(request.agent_id)
        return Checked(report, refusal, doubt, await self._find_earlier(request, report))

    async def _doubt_agent(self, agent_id: int) -> str | None:
        """Why the agent may be a wrong one. The provider has no call that lists agents: it refuses an unknown one once
        the file is sent (contract, "Batch calls")."""
        if await self._database.queries.has_batch_of_agent(self._database.pool, agent_id=agent_id):
            return None
        return f"No batch of agent {agent_id} is known yet: check its number before people are called"

    async def open_rejected(self, request: UploadRequest, *, are_repeats: bool) -> BinaryIO:
        """A CSV of the rows with errors, each with its error, or of those whose person another row has, as after an
        upload that leaves them out. The file has no name, and is gone once it is closed.

        Raises InvalidRequestError for a file that cannot be read, NotFoundError where there is no such row.
        """
        source = await self._checker.open(request)
        with make_folder() as folder:
            rejected = Rejected(batch_key=0, copy_path=f"{folder}/rejected.copy")
            report = await check_contacts(source.path, source.options, rejected=rejected)
            target = Path(folder) / "rejected.csv"
            copy = Path(rejected.copy_path)
            if not await asyncio.to_thread(_write_rejected, copy, report.names, target, are_repeats=are_repeats):
                raise NotFoundError(explain_none(are_repeats=are_repeats))
            return await asyncio.to_thread(target.open, "rb")

    async def _find_earlier(self, request: UploadRequest, report: ContactsReport) -> asyncpg.Record | None:
        queries, pool = self._database.queries, self._database.pool
        batch_key = await queries.find_earlier_upload(
            pool,
            agent_id=request.agent_id,
            name=request.name,
            file_digest=request.file_digest,
            rows_digest=bytes.fromhex(report.rows_digest),
            people_digest=bytes.fromhex(report.people_digest),
        )
        return None if batch_key is None else await queries.get_upload(pool, batch_key=batch_key)


def explain_none(*, are_repeats: bool) -> str:
    """Why there is nothing to download."""
    if are_repeats:
        return "No row is left out because another row has its person"
    return "No row has to be corrected: none has an error, or other rows have their people (see duplicates.csv)"


def _write_rejected(copy: Path, names: list[str], target: Path, *, are_repeats: bool) -> int:
    """Writes the CSV from the rows of a check; returns how many there are."""
    count = 0
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write("\ufeff" + write_line([*map(guard, names), ERROR_COLUMN]))
        for line in _read_lines(copy, are_repeats=are_repeats):
            file.write(line)
            count += 1
    return count


def _read_lines(copy: Path, *, are_repeats: bool) -> Iterator[str]:
    csv.field_size_limit(MAX_ROW_CHARACTERS)
    with copy.open(encoding="utf-8", newline="") as file:
        for _, _, line, is_repeat in csv.reader(file):
            if is_repeat == str(are_repeats):
                yield line

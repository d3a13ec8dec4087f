"""The check of an upload's file, the same for a dry run and for an upload: the file as a table, its columns, and the
people who are not called."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from service.counts import count
from service.errors import InvalidRequestError
from service.formant.regions import Regions
from service.store.database import Database
from service.uploads.columns import check_columns
from service.uploads.contacts import check_contacts
from service.uploads.exclusion import compare_people
from service.uploads.report import CalledLately, ContactsOptions, ContactsReport, Part, Rejected
from service.uploads.sources import Source, open_source
from service.uploads.storing import UploadRequest

CALLED_WITHIN = timedelta(days=7)
"""Where the request does not say."""


class FileChecker:
    """Checks files of contacts. ``ref_column`` "" adds none."""

    def __init__(self, database: Database, *, ref_column: str, regions: Regions) -> None:
        self._database = database
        self._ref_column = ref_column
        self._regions = regions

    async def open(self, request: UploadRequest) -> Source:
        await self._check_goal(request)
        return await open_source(request, self._options(request))

    async def _check_goal(self, request: UploadRequest) -> None:
        queries, agent_id = self._database.queries, request.agent_id
        if request.promote_at_goal_rate is None or await queries.has_goal(self._database.pool, agent_id=agent_id):
            return
        raise InvalidRequestError(
            f"promote_at_goal_rate: agent {agent_id} has no goal; set one first with PUT /v1/agents/{agent_id}/goal"
        )

    def _options(self, request: UploadRequest) -> ContactsOptions:
        return ContactsOptions(
            ref_column=self._ref_column,
            drops_errors=True,
            phone_column=request.phone_column,
            encoding=request.encoding,
            delimiter=request.delimiter,
            region=request.region or self._regions.find(request.agent_id),
            is_region_stated=request.region != "",
            duplicates=request.duplicates,
            invalid=request.invalid,
        )

    async def check_columns(self, request: UploadRequest, columns: list[str]) -> None:
        pool = self._database.pool
        await check_columns(self._database, pool, request.agent_id, columns, accept=request.accept_columns)

    async def find_last_suppression(self) -> int:
        """The number of the last suppression; 0 where the list is empty."""
        last: int = await self._database.queries.get_last_suppression(self._database.pool)
        return last

    async def check_people(
        self,
        request: UploadRequest,
        source: Source,
        folder: Path,
        last_suppression: int,
        parts: tuple[Part, ...] = (),
        rejected: Rejected | None = None,
        *,
        called_within: timedelta | None,
        on_progress: Callable[[int], None] | None = None,
    ) -> ContactsReport:
        """The report on a file, without the people who are not called. It is checked again only if there are some."""
        phones, left_out = folder / "phones", folder / "left_out"

        async def check(**paths: str) -> ContactsReport:
            return await check_contacts(
                source.path,
                source.options,
                parts,
                rejected,
                test_recipients=request.test_recipients if parts else 0,
                seed=parts[-1].batch_key if parts else 0,
                on_progress=on_progress,
                **paths,
            )

        report = await check(phones_path=str(phones))
        called_within = called_within or (CALLED_WITHIN if report.is_given_back else None)
        is_compared = called_within or request.skip_called_within or last_suppression
        if not is_compared or (parts and report.is_refused):
            return report
        compared = await compare_people(
            self._database,
            phones,
            left_out,
            has_suppressions=last_suppression > 0,
            called_within=called_within,
            skip_called_within=request.skip_called_within,
        )
        if compared.left_out:
            report = await check(left_out_path=str(left_out))
        report.called = compared.called
        if report.is_given_back and report.called and report.called.people:
            report.warnings.append(_warn_of_repeats(report.called))
        return report


def _warn_of_repeats(called: CalledLately) -> str:
    return (
        f"The file has rows that were given back, and {count(called.people, 'number')} of it "
        f"{'was' if called.people == 1 else 'were'} called within {called.within}, or will be: where the phone was not "
        "corrected, the same person is called again. To leave them out, send skip_called_within=1d"
    )


def digest_report(request: UploadRequest, report: ContactsReport) -> str:
    """SHA-256, in hex, of what an upload would do: the file, the choices, the rows as they were read, and how many
    people are called. The caller sends it back, so that nothing else is done."""
    asked = f"{request.digest().hex()} {report.rows_digest} {report.recipients}"
    return hashlib.sha256(asked.encode()).hexdigest()

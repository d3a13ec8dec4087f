"""What a dry run answers: the report on a file."""

from collections.abc import AsyncIterator
from typing import BinaryIO

import msgspec
from starlette.concurrency import run_in_threadpool

from service.uploads.dry_runs import Checked
from service.uploads.file_checks import digest_report
from service.uploads.report import ContactError, Duplicate, FileReading, FileSummary, LeftOut
from service.uploads.storing import UploadRequest
from service.web.responses import Time

CHUNK_BYTES = 2**16


class EarlierUpload(msgspec.Struct):
    """An upload of the same file, or one in doubt with the same name or people."""

    upload_id: int
    state: str
    batch_id: int | None
    name: str
    prepared_at: Time


class DryRun(FileSummary, kw_only=True):
    """The report on a file. The lists name the first 100; the counts are of all."""

    valid: bool
    """Whether it would be sent as it is."""
    columns_refused: str | None
    """Why the file's columns are refused: see ``accept_columns``."""
    agent_unknown: str | None
    """Why the agent's number may be wrong: no batch of it is known. Null where one is."""
    columns: list[str]
    names: list[str]
    """The same columns as the file names them."""
    bytes: int
    reading: FileReading
    """How the file was read."""
    report_digest: str
    """Of the file, the choices and the people to call: send it with the upload, so that nothing else is sent."""
    earlier_upload: EarlierUpload | None
    """The upload that this one would repeat, with the risk of calling people twice: see ``force``."""
    errors: list[ContactError]
    duplicates: list[Duplicate]
    left_out: list[LeftOut]


async def read_chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """The content of a file, which is closed at the end."""
    with file:
        while chunk := await run_in_threadpool(file.read, CHUNK_BYTES):
            yield chunk


def show_checked(asked: UploadRequest, checked: Checked) -> DryRun:
    """The report on a file, as it is answered."""
    report = checked.report
    found = {name: getattr(report, name) for name in DryRun.__struct_fields__ if hasattr(report, name)}
    earlier = checked.earlier
    return DryRun(
        valid=checked.refusal is None and not report.is_refused,
        columns_refused=checked.refusal,
        agent_unknown=checked.doubt,
        report_digest=digest_report(asked, report),
        earlier_upload=EarlierUpload(**{name: earlier[name] for name in EarlierUpload.__struct_fields__})
        if earlier
        else None,
        **found,
    )

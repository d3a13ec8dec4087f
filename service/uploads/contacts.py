"""Contacts: a CSV checked, normalised and written in parts, outside the event loop.

A small file is checked in a thread, a larger one in its own process, which is killed when the caller is cancelled.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from service.errors import InvalidRequestError, UnavailableError
from service.uploads.checking import Message, Task, check_file
from service.uploads.kinds import is_workbook
from service.uploads.report import ContactsOptions, ContactsReport, Part, Rejected, Workbook
from service.uploads.tables import Table
from service.uploads.workbooks import Conversion

PROCESS_BYTES = 2**20  # a larger file is worth starting a process
MAX_MESSAGE_BYTES = 2**24  # a report on 2,000 columns with long names
_PACKAGE_ROOT = str(Path(__file__).parents[2])


def read_columns(path: Path, options: ContactsOptions) -> list[str]:
    """The columns of the header as they go out. Raises InvalidRequestError for an unusable header."""
    table = Table(path, options)
    try:
        return table.columns
    finally:
        table.close()


async def read_workbook(path: Path, sheet: str) -> tuple[Path, Workbook] | None:
    """A CSV of the sheet beside the file, and what it was; None for a file that is no workbook.

    Raises InvalidRequestError for a workbook without such a sheet, and for what is neither a workbook nor text.
    """
    if not await asyncio.to_thread(is_workbook, path):
        return None
    target = path.with_suffix(".sheet")
    message = await _run_in_process(Conversion(path=str(path), target=str(target), sheet=sheet), lambda _: None)
    assert message.workbook is not None
    return target, message.workbook


async def check_contacts(
    path: Path,
    options: ContactsOptions,
    parts: tuple[Part, ...] = (),
    rejected: Rejected | None = None,
    *,
    test_recipients: int = 0,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
    phones_path: str = "",
    left_out_path: str = "",
) -> ContactsReport:
    """The report on a file. Its recipients are written to ``parts``; of two, the second gets a seeded sample. Rows with
    errors, and those of people whom another row calls, are written to ``rejected``.

    The parts are usable only when ``error_count`` is 0. ``on_progress`` is called with the rows read so far.
    ``phones_path`` and ``left_out_path``: see ``Task``.
    Raises InvalidRequestError for an unusable file or sample size, UnavailableError if the check itself fails.
    """
    task = Task(
        path=str(path),
        options=options,
        parts=parts,
        rejected=rejected,
        test_recipients=test_recipients,
        seed=seed,
        phones_path=phones_path,
        left_out_path=left_out_path,
    )
    report = on_progress or (lambda _: None)
    if os.stat(path).st_size >= PROCESS_BYTES:  # noqa: PTH116 a local file
        message = await _run_in_process(task, report)
        assert message.report is not None
        return message.report
    loop = asyncio.get_running_loop()

    def report_to_loop(rows: int) -> None:
        loop.call_soon_threadsafe(report, rows)

    return await asyncio.to_thread(check_file, task, report_to_loop)


async def _run_in_process(task: Task | Conversion, report: Callable[[int], None]) -> Message:
    paths = [path for path in (os.environ.get("PYTHONPATH"), _PACKAGE_ROOT) if path]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "service.uploads.checking",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        limit=MAX_MESSAGE_BYTES, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        while line := await process.stdout.readline():
            message = msgspec.json.decode(line, type=Message)
            if message.progress is not None:
                report(message.progress)
            elif message.refused is not None:
                raise InvalidRequestError(message.refused, details=message.details)
            else:
                return message
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
    raise UnavailableError("The check of the file ended unexpectedly; nothing was changed: send it again")

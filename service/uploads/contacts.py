"""Contacts: a CSV checked, normalised and written in parts, beside the event loop, whatever its size.

A small file is checked in a thread, a larger one in a process of its own, which is ended with whoever awaits it.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from service.errors import InvalidRequestError, UnavailableError
from service.uploads.checking import Message, Task, check_file
from service.uploads.report import ContactError, ContactsOptions, ContactsReport, Duplicates, Part
from service.uploads.rows import open_rows

__all__ = [
    "ContactError", "ContactsOptions", "ContactsReport", "Duplicates", "Part", "check_contacts", "read_columns",
]  # fmt: skip

PROCESS_BYTES = 2**20  # from here on a process is worth its start
_MESSAGE_BYTES = 2**24  # a report of 2,000 columns with long names
_PACKAGE_ROOT = str(Path(__file__).parents[2])


def read_columns(path: Path, ref_column: str = "") -> list[str]:
    """The columns that the header names, stripped and checked; raises InvalidRequestError for an unusable one."""
    columns, rows = open_rows(path, ref_column)
    rows.close()
    return columns


async def check_contacts(
    path: Path,
    options: ContactsOptions,
    parts: tuple[Part, ...] = (),
    *,
    test_recipients: int = 0,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> ContactsReport:
    """What the file holds; its recipients are written to ``parts``, a seeded sample of them to the second if two.

    What was written is of use only when ``error_count`` is 0. ``on_progress`` is given rows read, now and then.
    Raises InvalidRequestError for a file (or a sample) that is not possible, UnavailableError if the check broke.
    """
    task = Task(path=str(path), options=options, parts=parts, test_recipients=test_recipients, seed=seed)
    tell = on_progress or (lambda _: None)
    if os.stat(path).st_size >= PROCESS_BYTES:  # noqa: PTH116 one look at a local file
        return await _check_in_process(task, tell)
    loop = asyncio.get_running_loop()

    def tell_loop(rows: int) -> None:
        loop.call_soon_threadsafe(tell, rows)

    return await asyncio.to_thread(check_file, task, tell_loop)


async def _check_in_process(task: Task, tell: Callable[[int], None]) -> ContactsReport:
    paths = [path for path in (os.environ.get("PYTHONPATH"), _PACKAGE_ROOT) if path]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "service.uploads.checking",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        limit=_MESSAGE_BYTES, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        while line := await process.stdout.readline():
            message = msgspec.json.decode(line, type=Message)
            if message.progress is not None:
                tell(message.progress)
            elif message.report is not None:
                return message.report
            elif message.refused is not None:
                raise InvalidRequestError(message.refused)
            else:
                break
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
    raise UnavailableError("The check of the file ended unexpectedly; nothing was changed: send it again")

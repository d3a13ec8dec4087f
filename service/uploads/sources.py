"""The source of an upload: the received file as a CSV, whatever it was, and how to read it."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import msgspec

from service.errors import InvalidRequestError
from service.uploads.contacts import read_columns, read_workbook
from service.uploads.report import ContactsOptions
from service.uploads.storing import UploadRequest


class Source(NamedTuple):
    """A CSV, how to read it, and its columns as they go out."""

    path: Path
    options: ContactsOptions
    columns: list[str]


async def open_source(request: UploadRequest, options: ContactsOptions) -> Source:
    """The file of a request. Raises InvalidRequestError for what is no table of contacts."""
    path = request.path
    notes: list[str] = []
    if sheet := await read_workbook(path, request.sheet):
        path, workbook = sheet
        notes = [*workbook.notes, *_list_unused(options)]
        options = msgspec.structs.replace(options, workbook=workbook, encoding=None, delimiter=None)
    elif request.sheet:
        notes = ["sheet: is not used, since the file is no workbook"]
    try:
        columns = await asyncio.to_thread(read_columns, path, options)
    except InvalidRequestError as error:
        raise InvalidRequestError(". ".join([error.message, *notes]), details=error.details) from error
    return Source(path, msgspec.structs.replace(options, notes=tuple(notes)), columns)


def _list_unused(options: ContactsOptions) -> list[str]:
    given = {"encoding": options.encoding, "delimiter": options.delimiter}
    return [f"{name}: is not used, since the file is a workbook" for name, value in given.items() if value]

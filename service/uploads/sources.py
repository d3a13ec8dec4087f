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


async def open_source(request: UploadRequest, options: ContactsOptions, binding: list[str] | None) -> Source:
    """The file of a request. ``binding``: the columns of the agent's files; None before its first upload.

    A column ``error`` comes from rows that an upload gave back, and is left out, if it holds nothing but their errors,
    or nothing and the agent's files have no such column. Raises InvalidRequestError for what is no table of contacts.
    """
    path = request.path
    notes: list[str] = []
    if sheet := await read_workbook(path, request.sheet):
        path, workbook = sheet
        notes = [*workbook.notes, *_list_unused(options)]
        options = msgspec.structs.replace(options, workbook=workbook, encoding=None, delimiter=None)
    elif request.sheet:
        notes = ["sheet: is not used, since the file is no workbook"]
    try:
        columns, (name, has_errors) = await asyncio.to_thread(read_columns, path, options)
    except InvalidRequestError as error:
        raise InvalidRequestError(". ".join([error.message, *notes]), details=error.details) from error
    if name and (has_errors or name not in (binding or ())):
        options = msgspec.structs.replace(options, dropped_column=name)
        columns.remove(name)
    return Source(path, msgspec.structs.replace(options, notes=tuple(notes)), columns)


def _list_unused(options: ContactsOptions) -> list[str]:
    given = {"encoding": options.encoding, "delimiter": options.delimiter}
    return [f"{name}: is not used, since the file is a workbook" for name, value in given.items() if value]

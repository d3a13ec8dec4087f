"""The source of an upload: the received file as a CSV, whatever it was, and how to read it."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import msgspec

from service.uploads.contacts import read_columns, read_workbook
from service.uploads.report import ERROR_COLUMN, ContactsOptions
from service.uploads.storing import UploadRequest


class Source(NamedTuple):
    """A CSV, how to read it, and its columns as they go out."""

    path: Path
    options: ContactsOptions
    columns: list[str]


async def open_source(request: UploadRequest, options: ContactsOptions, binding: list[str] | None) -> Source:
    """The file of a request. ``binding``: the columns of the agent's files; None before its first upload.

    A last column ``error`` comes from rows that an upload gave back, and is left out, unless the agent's files have one
    or the request makes the file's columns the agent's. Raises InvalidRequestError for what is no table of contacts.
    """
    path = request.path
    if sheet := await read_workbook(path, request.sheet):
        path, notes = sheet
        options = msgspec.structs.replace(options, counts_rows=True, notes=tuple(notes))
    elif request.sheet:
        options = msgspec.structs.replace(options, notes=("sheet: is not used, since the file is no workbook",))
    columns = await asyncio.to_thread(read_columns, path, options)
    is_bound_without = binding is not None and ERROR_COLUMN not in binding
    if columns[-1] == ERROR_COLUMN and is_bound_without and not request.accept_columns:
        options = msgspec.structs.replace(options, dropped_column=ERROR_COLUMN)
        columns.pop()
    return Source(path, options, columns)

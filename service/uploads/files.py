"""Files over HTTP: a CSV of bounded size, received as a form's part or as the body itself, and kept on disk."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message

from service.errors import BodyTooLargeError, InvalidRequestError
from service.uploads.folders import make_folder

MAX_FILE_BYTES = 100 * 2**20
MAX_FIELDS = 100
MAX_FORM_BYTES = MAX_FILE_BYTES + 2**16


class ReceivedFile(NamedTuple):
    """A received file: its path here, and its SHA-256."""

    path: Path
    digest: bytes


@asynccontextmanager
async def receive_form(request: Request) -> AsyncIterator[FormData]:
    """The multipart form of a request; raises BodyTooLargeError or InvalidRequestError."""
    if not _is_form(request):
        raise InvalidRequestError("Send multipart/form-data with the fields agent_id, name and file")
    parser = _FormParser(request.headers, _bound(request).stream(), max_files=1, max_fields=MAX_FIELDS)
    try:
        form = await parser.parse()
        if not parser.is_complete:  # a field that is cut off, such as dry_run, would be as if it had not been sent
            raise InvalidRequestError("The form is cut off: its last boundary is missing; send it again")
        yield form
    except MultiPartException as error:
        raise InvalidRequestError(f"The form cannot be read: {error.message}") from error
    finally:
        parser.close()


class _FormParser(MultiPartParser):
    """Takes the part ``file`` as a file also where its header lacks ``filename``, or has only ``filename*``."""

    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True

    def close(self) -> None:
        for file in self._files_to_close_on_error:
            file.close()

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") == b"file" and b"filename" not in options:
            part.content_disposition = b'form-data; name="file"; filename="contacts.csv"'
        super().on_headers_finished()


@asynccontextmanager
async def keep_file(form: FormData) -> AsyncIterator[ReceivedFile]:
    """The form's file, on disk while the block runs."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidRequestError(
            "file: is missing; send it as the form's part named file (curl: -F file=@contacts.csv)"
        )
    if file.size and file.size > MAX_FILE_BYTES:
        raise _too_large()
    with make_folder() as folder:
        path = Path(folder) / "contacts.csv"
        digest = await run_in_threadpool(_copy, file.file, path)
        yield ReceivedFile(path, digest)


@asynccontextmanager
async def receive_file(request: Request) -> AsyncIterator[tuple[ReceivedFile, FormData]]:
    """The CSV of a request, sent as the form part ``file`` or as the body itself, and the form, or an empty one."""
    if _is_form(request):
        async with receive_form(request) as form, keep_file(form) as received:
            yield received, form
        return
    with make_folder() as folder:
        path, digest, size = Path(folder) / "contacts.csv", hashlib.sha256(), 0
        with path.open("wb") as target:
            async for chunk in _bound(request).stream():
                size += len(chunk)
                digest.update(chunk)
                target.write(chunk)
        if size == 0:
            raise InvalidRequestError("file: is missing; send the CSV as the body or as a part named file")
        yield ReceivedFile(path, digest.digest()), FormData()


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


def _bound(request: Request) -> Request:
    """The request, with a body that is refused beyond the limit, whatever Content-Length says, or if compressed."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise InvalidRequestError(
            f"Content-Encoding: the body is compressed ({encoding[:20]}); send the file as it is, uncompressed"
        )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_FORM_BYTES:
        raise _too_large()
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > MAX_FORM_BYTES:
            raise _too_large()
        return message

    return Request(request.scope, receive)


def _copy(source: BinaryIO, path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("wb") as target:
        while chunk := source.read(2**20):
            digest.update(chunk)
            target.write(chunk)
    return digest.digest()


def _too_large() -> BodyTooLargeError:
    return BodyTooLargeError(f"file: is over {MAX_FILE_BYTES} bytes: split it into several batches")

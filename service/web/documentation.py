"""The API's documentation: the OpenAPI document, and a page that shows it. Everything is served from here, so it works
without internet access, and a content security policy keeps the browser from loading anything else.

The viewer is swagger-ui, in ``static/swagger-ui-VERSION`` with its licence; CONTRIBUTING says how to upgrade it.
"""

import hashlib
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from service.errors import NotFoundError
from service.web.openapi import build_document
from service.web.operations import Answer, Handler, Operation
from service.web.parameters import PathText

STATIC = Path(__file__).parent / "static"
FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
FILE_TYPES = ("text/javascript", "text/css", "image/png")
FILE = PathText("file", "The file's name, as the page links to it")


class Documentation:
    """Handlers of ``/``, ``/openapi.json`` and ``/docs``. ``operations`` are those of all other handlers."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = operations
        self._static = StaticFiles(directory=STATIC)
        self._files = {"start.js": STATIC / "start.js"} | {
            f"{folder.name}-{path.name}": path
            for folder in STATIC.glob("swagger-ui-*")
            for path in folder.iterdir()
            if path.suffix in {".js", ".css", ".png"}
        }

    def operations(self) -> list[Operation]:
        redirect = Answer(None, "Redirect to the console", 307, headers=(("Location", "/console"),))
        files = tuple(Answer(str, "The file", media_type=kind) for kind in FILE_TYPES)
        routes: list[tuple[str, Handler, tuple[PathText, ...], tuple[Answer, ...]]] = [
            ("/", self.go_to_console, (), (redirect,)),
            ("/openapi.json", self.get_document, (), (Answer(dict[str, Any], "OpenAPI 3.1"),)),
            ("/docs", self.get_page, (), (Answer(str, "The page", media_type="text/html"),)),
            ("/docs/{file}", self.get_file, (FILE,), files),
        ]
        return [
            Operation("GET", path, handler, None, "Documentation", parameters, answers, is_tolerant=True)
            for path, handler, parameters, answers in routes
        ]

    async def go_to_console(self, request: Request) -> Response:
        """Redirects to the console."""
        return RedirectResponse("/console")

    async def get_document(self, request: Request) -> Response:
        """This document."""
        document, tag = await run_in_threadpool(lambda: self._document)  # building it takes a while
        headers = {"cache-control": REVALIDATE, "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(document, media_type="application/json", headers=headers)

    async def get_page(self, request: Request) -> Response:
        """This documentation as a page, on which calls can be tried. It loads nothing from other hosts."""
        return self._answer_file(request, STATIC / "docs.html")

    async def get_file(self, request: Request) -> Response:
        """A file of the page. One with a version in its name never changes."""
        path = self._files.get(FILE.read(request))
        if path is None:
            raise NotFoundError("There is no such file in /docs")
        return self._answer_file(request, path)

    def _answer_file(self, request: Request, path: Path) -> Response:
        """The file, or 304 to a client that has it already."""
        answer = self._static.file_response(path, path.stat(), request.scope)
        answer.headers["cache-control"] = REVALIDATE if path.parent == STATIC else FOREVER
        answer.headers.update(HEADERS)
        return answer

    @cached_property
    def _document(self) -> tuple[bytes, str]:
        """The document and its ETag."""
        document = build_document([*self._operations, *self.operations()], version("formant-outcomes"))
        encoded = msgspec.json.encode(document)
        return encoded, f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'

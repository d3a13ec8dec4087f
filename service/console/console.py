"""Builds the console from its pages."""

from starlette.routing import Route

from service.console.http import Console
from service.console.pages.batch import BatchPages
from service.console.pages.components import Components
from service.console.pages.today import Today
from service.console.pages.upload import UploadPages
from service.console.pages.uploads import UploadsPages
from service.console.protection import Protection
from service.console.rendering import Renderer
from service.console.sign_in import SignIn
from service.web.operations import Operation


def build_console(
    sign_in: SignIn, protection: Protection, renderer: Renderer, operations: list[Operation], *, default_zone: str
) -> list[Route]:
    """The routes of the console, whose pages read what ``operations`` answer."""
    pages = (Today(), BatchPages(), UploadPages(), UploadsPages(), Components())
    return Console(operations, sign_in, protection, renderer, pages, default_zone=default_zone).routes()

"""Builds the console from its pages."""

from starlette.routing import Route

from service.console.http import Console
from service.console.pages.batch import BatchPages
from service.console.pages.callbacks import Callbacks
from service.console.pages.compare import Compare
from service.console.pages.components import Components
from service.console.pages.connections import Connections
from service.console.pages.health import Health
from service.console.pages.keys import KeyPages
from service.console.pages.people import People
from service.console.pages.privacy import PrivacyPages
from service.console.pages.quarantine import QuarantinePages
from service.console.pages.sessions import SessionPages
from service.console.pages.today import Today
from service.console.pages.unattributed import UnattributedPages
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
    events = (QuarantinePages(), UnattributedPages())
    operation = (Connections(), Health(), *events, KeyPages(), SessionPages(), PrivacyPages())
    uploads = (UploadPages(), UploadsPages())
    pages = (Today(), BatchPages(), People(), Callbacks(), Compare(), *uploads, *operation, Components())
    return Console(operations, sign_in, protection, renderer, pages, default_zone=default_zone).routes()

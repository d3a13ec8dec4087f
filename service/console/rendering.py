"""Renders the console's pages."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
}


class Renderer:
    """Renders templates. Every value is escaped; a name that the page does not give is an error, not a blank."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
        )

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        """The template as an HTML answer."""
        text = self._templates.get_template(template).render(request=request, path=request.url.path, **context)
        return Response(text, status, headers=HEADERS, media_type="text/html")

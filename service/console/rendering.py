"""Renders the console's pages: templates, how numbers and times are written, static files, and headers."""

import gzip
import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from service.console.api import encode_query
from service.console.protection import REFERRER_POLICY
from service.errors import NotFoundError
from service.web.documentation import FOREVER
from service.wording import DIFFERENCES, METHODS, describe_actor

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    **REFERRER_POLICY,
    "vary": "Cookie, HX-Request",
}
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
DASH = "–"
THIN_SPACE = "\u202f"


class _File(NamedTuple):
    content: bytes
    packed: bytes
    media_type: str
    version: str


class Renderer:
    """Renders templates. Every value is escaped; a name that the page does not give is an error, not a blank."""

    def __init__(self, default_zone: str) -> None:
        self._defaults = {
            "session": None,
            "zone": ZoneInfo(default_zone),
            "allows": lambda scope: False,
            "is_unsent": False,
        }
        self._files = {
            str(path.relative_to(STATIC)): _read_file(path) for path in STATIC.rglob("*") if path.suffix in TYPES
        }
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {
            "number": format_number,
            "percent": format_percent,
            "duration": format_duration,
            "signed": format_signed,
            "day": format_day,
            "date": format_date,
            "side": format_side,
            "time": format_time,
            "epoch": to_epoch,
            "words": to_words,
            "actor": describe_actor,
            "difference": lambda code: DIFFERENCES.get(code, to_words(code)),
            "method": lambda code: METHODS.get(code, code),
            "pair": lambda value: (value, value),
            "result_choice": lambda name: (f"results.{name}", f"Result: {name}"),
        }
        self._templates.globals |= {"asset": self._link, "link": link}

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        """The template as an HTML answer. Without a ``session`` in the context nobody is signed in."""
        filled = self._defaults | {"request": request, "path": request.url.path} | context
        text = self._templates.get_template(template).render(filled)
        return Response(text, status, headers=HEADERS, media_type="text/html")

    def answer_file(self, request: Request) -> Response:
        """A static file. Its link names its version, so a browser may keep it for ever."""
        found = self._files.get(request.path_params["file"])
        if found is None:
            raise NotFoundError("There is no such file")
        headers = {"cache-control": FOREVER, "vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers=headers | {"content-encoding": "gzip"}, media_type=found.media_type)
        return Response(found.content, headers=headers, media_type=found.media_type)

    def _link(self, name: str) -> str:
        return f"/console/static/{name}?v={self._files[name].version}"


def _read_file(path: Path) -> _File:
    content = path.read_bytes()
    packed = gzip.compress(content, 9, mtime=0)
    return _File(content, packed, TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])


def link(path: str, query: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """A link with the parameters of ``query``, of which ``changes`` replace some; None removes one."""
    text = encode_query({**(query or {}), **changes})
    return f"{path}?{text}" if text else path


def format_number(value: float | None) -> str:
    """``12,480``, or a dash for an unknown number."""
    return DASH if value is None else f"{value:,}"


def format_percent(value: float | None) -> str:
    """``84.0 %``, or a dash for an unknown share."""
    return DASH if value is None else f"{value:,.1f}{THIN_SPACE}%"


def format_signed(value: float, digits: int = 1) -> str:
    """``+2.4`` or ``−1.6``; ``0.0`` for what rounds to nothing."""
    text = f"{abs(value):,.{digits}f}"
    return text if float(text.replace(",", "")) == 0 else f"{'+' if value > 0 else '−'}{text}"


def format_duration(seconds: float | None) -> str:
    """``2 min 5 s``, or a dash."""
    if seconds is None:
        return DASH
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left if not hours else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def parse_time(value: str | datetime | None) -> datetime | None:
    """The time in an API's answer; None for none."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value)


@pass_context
def format_time(context: Context, value: str | datetime | None, *, seconds: bool = False) -> Markup | str:
    """``Mon 16 Mar 2026, 14:05`` as a ``time`` element in the viewer's zone, which its title names; or a dash."""
    moment = parse_time(value)
    if moment is None:
        return DASH
    zone: ZoneInfo = context["zone"]
    local = moment.astimezone(zone)
    text = f"{local:%a} {local.day} {local:%b %Y, %H:%M}" + (f":{local:%S}" if seconds else "")
    return Markup('<time datetime="{}" title="{} ({})">{}</time>').format(
        moment.astimezone(UTC).isoformat(), f"{local:%Y-%m-%d %H:%M:%S %z}", zone.key, text
    )


@pass_context
def format_day(context: Context, value: str | datetime | None) -> str:
    """``16 Mar 2026`` in the viewer's zone, or a dash."""
    moment = parse_time(value)
    if moment is None:
        return DASH
    local = moment.astimezone(context["zone"])
    return f"{local.day} {local:%b %Y}"


def format_date(value: str) -> str:
    """``16 Mar 2026``, of a day that has no zone."""
    day = date.fromisoformat(value)
    return f"{day.day} {day:%b %Y}"


def format_span(text: str) -> str:
    """``17 to 23 Nov 2026`` for ``2026-11-17..2026-11-23``; times as they are given."""
    first, _, last = text.partition("..")
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        return f"{first} to {last}"
    if start == end:
        return format_date(first)
    begin = f"{start.day}"
    if (start.year, start.month) != (end.year, end.month):
        begin += f" {start:%b}" if start.year == end.year else f" {start:%b %Y}"
    return f"{begin} to {format_date(last)}"


def format_side(text: str) -> str:
    """A side of a comparison in words: ``agent:7:2026-11-17..2026-11-23`` is ``Agent 7, 17 to 23 Nov 2026``."""
    kind, _, rest = text.partition(":")
    if kind == "period":
        return format_span(rest)
    if kind == "agent":
        agent, _, span = rest.partition(":")
        return f"Agent {agent}, {format_span(span)}"
    names = {
        "batch": "Batch",
        "campaign": "Campaign",
        "test": "Test batch of campaign",
        "main": "Main batch of campaign",
    }
    return f"{names[kind]} {rest}"


def to_epoch(value: str | datetime) -> float:
    """Seconds since 1970, for charts."""
    moment = parse_time(value)
    assert moment is not None
    return moment.timestamp()


def to_words(code: str | None) -> str:
    """A code as words: ``no_answer`` becomes ``no answer``."""
    return DASH if code is None else code.replace("_", " ")

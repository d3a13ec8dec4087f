"""Writes what stands in docs/ and is made from the code: run ``make docs``. A test fails while a page is stale.

A page names a table between ``<!-- made by make docs: NAME -->`` and ``<!-- end -->``; the dictionary is a whole page.
"""

import ast
import asyncio
import inspect
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

import click
import httpx
import msgspec

from service import wording
from service.app import open_app
from service.cli import outcomes
from service.errors import ApiError, ProviderError
from service.outcomes.shapes import Reason
from service.settings import (
    NAMES,
    SECRETS,
    SYNC_NAMES,
    SYNC_SECRETS,
    Settings,
    SyncSettings,
    read_settings,
    read_sync_settings,
)
from service.store.database import Connection, connect, load_queries
from service.store.embedded import run_embedded_postgres
from service.telemetry.metrics import Metrics
from service.web.schemas import to_markdown

ROOT = Path(__file__).parents[1]
DICTIONARY = ROOT / "docs" / "analyse" / "dictionary.md"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
PROMETHEUS_RULE = ROOT / "deploy" / "kubernetes" / "monitoring" / "prometheusrule.yaml"
PROMETHEUS_RULE_HEAD = """\
# Made by make docs from deploy/prometheus/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: outcomes
spec:
"""
DICTIONARY_HEAD = """\
# Data dictionary

Made by `make docs` from the comments in the database: to change a description, edit `sql/bi/90_comments.sql`. The views
exist in two schemas: `bi`, which the role `bi_reader` reads, masks phones and call parameters; `bi_full`, for
`bi_reader_full`, shows them. Where a column means something else in `bi_full`, its description says so after a dash.
Columns are never changed or removed; new ones are added at the end of a view.
"""
REGION = re.compile(r"(<!-- made by make docs: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PROSE = TextWrapper(120, break_long_words=False, break_on_hyphens=False)
EVERYWHERE = {"400", "401", "403", "500", "503"}
"""Errors of every call that needs a key."""


def list_pages() -> list[Path]:
    """Every page that may hold a table."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fill(page: str, tables: dict[str, str]) -> str:
    """The page with its tables as the code makes them now."""
    return REGION.sub(lambda region: f"{region[1]}\n{tables[region[2]].strip()}\n\n{region[3]}", page)


def make_tables(document: dict[str, Any]) -> dict[str, str]:
    """All tables by name; ``document`` is the service's OpenAPI document."""
    return {
        "settings": _table(("name", "default", "meaning"), _list_settings(NAMES, SECRETS, read_settings({}))),
        "crm_settings": _table(
            ("name", "default", "meaning"), _list_settings(SYNC_NAMES, SYNC_SECRETS, read_sync_settings({}))
        ),
        "metrics": _table(("name", "type", "meaning"), _list_metrics()),
        "commands": "".join(_describe_command("outcomes", outcomes)),
        "calls": "".join(_describe_calls(document)),
        "verdict_codes": _table(("verdict", "in words", "meaning"), _list_words(wording.VERDICTS)),
        "reason_codes": _table(("code", "in words", "meaning"), _list_reasons()),
        "state_codes": _table(("state", "in words", "meaning"), _list_words(wording.STATES)),
        "comparison_codes": _table(("verdict", "in words", "meaning"), _list_words(wording.COMPARED)),
        "comparison_note_codes": _table(("code", "in words", "meaning"), _list_words(wording.COMPARISON_NOTES)),
        "disposition_codes": _table(("disposition", "in words", "meaning"), _list_words(wording.DISPOSITIONS)),
        "unattributed_codes": _table(("reason", "in words", "meaning"), _list_words(wording.UNATTRIBUTED)),
        "quarantine_codes": _table(("reason", "in words", "meaning"), _list_words(wording.QUARANTINED)),
        "errors": _table(("status", "type", "meaning", "where"), _list_errors(document)),
        "provider_errors": _table(("status", "type", "message"), _list_provider_errors()),
    }


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |\n" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _list_settings(
    names: dict[str, str], secrets: set[str], defaults: Settings | SyncSettings
) -> Iterator[tuple[str, ...]]:
    for name, description in names.items():
        default = _find_default(name, vars(defaults))
        also = " (`_FILE`)" if name in secrets else ""
        yield f"`{name}`{also}", f"`{default}`" if default else "empty", description


def _list_reasons() -> Iterator[tuple[str, ...]]:
    """Each code with an example of its sentence."""
    at = datetime(2026, 3, 16, 18, 5, tzinfo=UTC)
    for code, words in wording.REASONS.items():
        figure = "total_processed_is_the_sum_of_finals" if code == "provider_inconsistent" else "busy_count"
        example = Reason(code, figure, 12, [7, 9], done=3, total=12, ours=3, theirs=15, since=at)
        if "{when}" in words.sentence:
            example = msgspec.structs.replace(example, expected_at=at)
        yield f"`{code}`", wording.describe_reason(example), words.meaning


def _list_words(words: dict[str, wording.Words]) -> Iterator[tuple[str, ...]]:
    for code, (sentence, meaning) in words.items():
        yield f"`{code}`", re.sub(r"{\w+}", "…", sentence), meaning


def _find_default(name: str, defaults: dict[str, Any]) -> str:
    if name == "FORMANT_WEBHOOK_SECRET":
        value = defaults["webhook_secrets"]
    elif kept := re.fullmatch(r"OUTCOMES_KEEP_(\w+)_DAYS", name):
        value = defaults["keep_days"][kept[1].lower()]
    else:
        value = defaults[name.removeprefix("OUTCOMES_").lower()]
    return str(int(value)) if isinstance(value, bool) else str(value or ("" if value != 0 else 0))


def _list_metrics() -> Iterator[tuple[str, ...]]:
    for family in Metrics().registry.collect():
        if family.name.startswith("outcomes_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield f"`{name}`", family.type, family.documentation


def _describe_command(name: str, command: click.Command) -> Iterator[str]:
    """A section for a command, and one for each of its subcommands; the group ``outcomes`` itself has none."""
    with click.Context(command, info_name=name) as context:
        if name != "outcomes":
            arguments = [part for part in command.collect_usage_pieces(context) if part != "[OPTIONS]"]
            yield f"### {name}\n\n```\n{' '.join([name, *arguments])}\n```\n\n"
            text = inspect.cleandoc(command.help or "").replace("\b", "").replace("*", "\\*")
            yield f"{text.strip()}\n\n"
            options = [
                (f"`{_escape(record[0])}`", _escape(record[1]))
                for parameter in command.params
                if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
            ]
            if options:
                yield f"{_table(('option', 'meaning'), iter(options))}\n"
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                part = command.get_command(context, each)
                assert part is not None
                yield from _describe_command(f"{name} {each}", part)


def _describe_calls(document: dict[str, Any]) -> Iterator[str]:
    calls = [
        (method.upper(), path, call) for path, methods in document["paths"].items() for method, call in methods.items()
    ]
    for tag in document["tags"]:
        rows = (
            (f"`{method} {path}`", call.get("x-required-scope", "none"), _say(call), _name_errors(call))
            for method, path, call in calls
            if tag["name"] in call["tags"]
        )
        yield f"### {tag['name']}\n\n{_table(('call', 'scope', 'meaning', 'errors'), rows)}\n"


def _say(call: dict[str, Any]) -> str:
    text, _, _ = call["description"].partition("\n\n")
    names = [f"`{each['name']}`" for each in call.get("parameters", ()) if each["in"] == "query"]
    return _escape(f"{text.rstrip('.')}." + (f" Parameters: {', '.join(names)}." if names else ""))


def _name_errors(call: dict[str, Any]) -> str:
    usual = EVERYWHERE if "x-required-scope" in call else set()
    return ", ".join(status for status in call["responses"] if status >= "400" and status not in usual)


def _list_errors(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    own = [kind for kind in ApiError.__subclasses__() if kind.__module__.startswith("service.")]  # a test may have more
    kinds: list[type[ApiError]] = [ApiError, *(kind for kind in own if kind is not ProviderError)]
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.type)):
        text = to_markdown(kind.__doc__ or "").removeprefix(f"{kind.status}: ")
        meaning = "the service failed to answer" if kind is ApiError else text.rstrip(".")
        yield (
            str(kind.status),
            f"`{kind.type}`",
            _escape(meaning[:1].upper() + meaning[1:]),
            _find(kind, text, document),
        )


def _find(kind: type[ApiError], text: str, document: dict[str, Any]) -> str:
    """The calls that declare an error; those of one status are distinguished by its text."""
    if str(kind.status) in EVERYWHERE:
        return "every call that needs a key"
    calls = [
        f"`{method.upper()} {path}`"
        for path, methods in document["paths"].items()
        for method, call in methods.items()
        if text.rstrip(".").casefold() in call["responses"].get(str(kind.status), {}).get("description", "").casefold()
    ]
    return ", ".join(calls) or "any path"


def _list_provider_errors() -> Iterator[tuple[str, ...]]:
    """Each ProviderError that the code raises with a status and type of its own."""
    found = set()
    for path in sorted((ROOT / "service").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ProviderError":
                named = {word.arg: word.value for word in node.keywords}
                status, kind = named.get("status"), named.get("error_type")
                if isinstance(status, ast.Constant) and isinstance(kind, ast.Constant):
                    found.add((str(status.value), f"`{kind.value!s}`", _escape(_read_text(node.args[0]))))
    yield from sorted(found)


def _read_text(node: ast.expr) -> str:
    """A literal, with … for what is known only when it is raised."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


async def write_dictionary(connection: Connection) -> str:
    """The page about the views that BI tools read, from the comments in a migrated database."""
    rows = [row async for row in load_queries().list_bi_columns(connection)]
    full = {(row["view"], row["name"]): row["comment"] for row in rows if row["schema"] == "bi_full"}
    lines = [DICTIONARY_HEAD]
    for (view, comment), columns in groupby(
        (row for row in rows if row["schema"] == "bi"), key=itemgetter("view", "view_comment")
    ):
        lines += [f"## {view}", "", PROSE.fill(comment), "", "| column | type | |", "|---|---|---|"]
        for column in columns:
            unmasked = full[view, column["name"]]
            text = column["comment"] + (f" — `bi_full`: {unmasked}" if unmasked != column["comment"] else "")
            lines.append(f"| `{column['name']}` | {column['type']} | {_escape(text)} |")
        lines.append("")
    return "\n".join(lines)


def write_prometheus_rule() -> str:
    """The alert rules as the Prometheus Operator takes them."""
    rules = [line for line in ALERTS.read_text().splitlines() if not line.startswith("#")]
    return PROMETHEUS_RULE_HEAD + "".join(f"  {line}\n" for line in rules)


async def _write_all(url: str) -> None:
    settings = read_settings({"FORMANT_WEBHOOK_SECRET": "unused"})
    async with open_app(settings, url) as service:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://docs") as client:
            document = msgspec.json.decode((await client.get("/openapi.json")).content)
        connection = await connect(url)
        try:
            DICTIONARY.write_text(await write_dictionary(connection))
        finally:
            await connection.close()
    tables = make_tables(document)
    for page in list_pages():
        page.write_text(fill(page.read_text(), tables))


def main() -> None:
    """Writes every page, with the help of an embedded Postgres of its own."""
    PROMETHEUS_RULE.write_text(write_prometheus_rule())
    with tempfile.TemporaryDirectory() as folder, run_embedded_postgres(Path(folder)) as url:
        asyncio.run(_write_all(url))


if __name__ == "__main__":
    main()

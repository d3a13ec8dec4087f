"""The docs match the code: everything they name exists, every link resolves, and the template holds the defaults."""

import re
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from docs.generate import list_pages
from service.cli import outcomes
from service.settings import NAMES, SYNC_NAMES, read_settings, read_sync_settings
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
ENV_EXAMPLE = (ROOT / "deploy" / "env.example").read_text()
PAGES = [*list_pages(), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
FOLDERS = ("service", "sql", "tests", "deploy", "docs")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
NAME_PATTERN = re.compile(r"\b(?:OUTCOMES|FORMANT)_[A-Z_]+\b")
EXTERNAL_NAMES = {"OUTCOMES_BI_HOST", "OUTCOMES_BI_DATABASE", "OUTCOMES_BI_SSLMODE", "OUTCOMES_KEEP_"}
"""Grafana's own variables, and a prefix that stands for several settings."""


def read(page: Path) -> str:
    return page.read_text()


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts generate them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_an_existing_file_and_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", read(page))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors_of(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_named_file_exists(page: Path) -> None:
    for name in re.findall(rf"\b(?:{'|'.join(FOLDERS)})/[\w./-]*\w", re.sub(r"\]\([^)]*\)", "]", read(page))):
        assert list(ROOT.glob(re.sub("[A-Z]{4,}$", "*", name))), f"{page.name}: {name}"


def test_every_page_is_reachable_from_the_readme() -> None:
    linked = re.findall(r"\]\((docs/[^)#\s]+\.md)", read(ROOT / "README.md"))
    assert {ROOT / path for path in linked} == set((ROOT / "docs").rglob("*.md"))


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_named_setting_and_metric_exists(page: Path) -> None:
    settings = NAMES.keys() | SYNC_NAMES.keys()
    for name in set(NAME_PATTERN.findall(read(page))) - EXTERNAL_NAMES:
        assert name in settings or name.removesuffix("_FILE") in settings, f"{page.name}: {name}"
    families = list(Metrics().registry.collect())
    known = {family.name for family in families} | {f"{family.name}_total" for family in families}
    for name in re.findall(r"`(outcomes_\w+?)(?:[`{])", read(page)):
        assert name in known | {"outcomes_owner", "outcomes_service", "outcomes_"}, f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_named_command_exists_with_its_options(page: Path) -> None:
    shown = re.findall(r"`outcomes ([^`]+)`", read(page))
    for block in re.findall(r"^```bash\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE):
        lines = [line.partition("#")[0] for line in block.splitlines()]
        shown += [match for line in lines for match in re.findall(r"(?:^|[ /])outcomes ([a-z][^>|]*)", line)]
    for line in shown:
        command: click.Command = outcomes
        words = line.split()
        while isinstance(command, click.Group) and words and words[0][0].isalpha():
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, f"{page.name}: outcomes {line}"
            command = found
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options, f"{page.name}: outcomes {line}"


def test_every_command_has_a_help_text() -> None:
    with click.Context(outcomes) as context:
        for name in outcomes.list_commands(context):
            command = outcomes.get_command(context, name)
            assert command is not None
            assert command.help, name


def test_every_setting_is_in_the_template() -> None:
    for name in NAMES | SYNC_NAMES:
        assert re.search(rf"^{name}=", ENV_EXAMPLE, re.MULTILINE)


def test_the_template_holds_the_defaults() -> None:
    given = dict(line.split("=", 1) for line in ENV_EXAMPLE.splitlines() if line and not line.startswith("#"))
    assert given.keys() == (NAMES | SYNC_NAMES).keys()
    assert vars(read_settings(given)) == vars(read_settings({}))
    assert vars(read_sync_settings(given)) == vars(read_sync_settings({}))

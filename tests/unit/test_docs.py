"""What operators rely on is documented: a setting, route, metric or command that is not makes this fail."""

import re
from pathlib import Path

from service.cli import outcomes
from service.settings import NAMES, SYNC_NAMES, read_settings, read_sync_settings
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENV_EXAMPLE = (ROOT / "deploy" / "env.example").read_text()


def test_every_setting_stands_in_the_readme_and_in_the_template() -> None:
    for name in NAMES | SYNC_NAMES:
        assert f"`{name}`" in README
        assert re.search(rf"^{name}=", ENV_EXAMPLE, re.MULTILINE)


def test_the_template_holds_the_defaults() -> None:
    given = dict(line.split("=", 1) for line in ENV_EXAMPLE.splitlines() if line and not line.startswith("#"))
    assert given.keys() == (NAMES | SYNC_NAMES).keys()
    assert vars(read_settings(given)) == vars(read_settings({}))
    assert vars(read_sync_settings(given)) == vars(read_sync_settings({}))


def test_every_route_stands_in_the_readme() -> None:
    source = "".join(file.read_text() for file in (ROOT / "service").rglob("*.py"))
    routes = re.findall(r'Operation\(\s*"(\w+)",\s*"([^"]+)"', source)
    assert len(routes) > 10
    for method, path in routes:
        assert f"`{method} {path}`" in README


def test_every_metric_stands_in_the_readme() -> None:
    for family in Metrics().registry.collect():
        if family.name.startswith("outcomes_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert f"`{name}`" in README


def test_every_command_stands_in_the_readme_and_explains_itself() -> None:
    for name, command in outcomes.commands.items():
        assert f"`{name}`" in README
        assert command.help

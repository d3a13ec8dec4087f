"""The files in deploy/ match the service: their commands parse; their settings, probes and metrics exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from service.settings import NAMES, SECRETS
from service.store.database import UNSAFE_SETTINGS
from service.telemetry.metrics import Metrics
from tests.deploy.command_lines import parse
from tests.guarantees.patroni import Node

DEPLOY = Path(__file__).parents[2] / "deploy"
RUNBOOK = (DEPLOY.parent / "docs" / "operate" / "runbook.md").read_text()
LINK = (
    '{{ with query "last_over_time(outcomes_runbook_info[7d])" }}{{ . | first | label "url" }}{{ else }}'
    "docs/operate/runbook.md{{ end }}"
)
KNOWN = NAMES.keys() | {f"{name}_FILE" for name in SECRETS}


def load(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


COMPOSE = load("compose.yaml")[0]["services"]


def test_every_command_line_parses() -> None:
    lines = [service["command"] for service in COMPOSE.values() if "build" in service]
    unit = (DEPLOY / "outcomes.service").read_text()
    lines += [match.split() for match in re.findall(r"^ExecStart=\S+/outcomes (.+)$", unit, re.MULTILINE)]
    docker = (DEPLOY / "Dockerfile").read_text()
    lines += [[re.findall(r'^CMD \["(\w+)"\]$', docker, re.MULTILINE)[-1]]]
    assert len(lines) == 5
    for arguments in lines:
        parse(arguments)


def test_a_wrong_command_line_is_detected() -> None:
    with pytest.raises(click.UsageError):
        parse(["serve", "--prot=1"])


def test_every_setting_exists() -> None:
    names = [name for service in COMPOSE.values() if "build" in service for name in service.get("environment", {})]
    assert len(names) > 5
    assert set(names) <= KNOWN


def test_every_alert_names_existing_metrics_and_an_entry_of_the_runbook() -> None:
    known = {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    known |= {f"{family.name}_total" for family in Metrics().registry.collect()}
    known |= {f"{family.name}_bucket" for family in Metrics().registry.collect() if family.type == "histogram"}
    known |= {family.name for family in Metrics().registry.collect()}
    rules = [rule for group in load("prometheus/alerts.yaml")[0]["groups"] for rule in group["rules"]]
    assert len(rules) > 3
    headings = {heading.lower() for heading in re.findall(r"^##? (.+)$", RUNBOOK, re.MULTILINE)}
    for rule in rules:
        assert set(re.findall(r"\boutcomes_\w+", rule["expr"])) <= known
        address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert address == LINK
        named = re.findall(r'name=~"([^"]+)"', rule["expr"])
        expected = named[0].split("|") if anchor.startswith("{{") else [anchor]
        assert set(expected) <= headings


def test_the_proxy_waits_longer_than_the_service_takes() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    webhook = text.partition("location /webhooks/formant")[2].partition("}")[0]
    upload = text.partition("location = /v1/batch-call")[2].partition("}")[0]
    assert "proxy_read_timeout 9s" in webhook  # the service answers within 8 s, the provider waits 10 s
    assert "proxy_next_upstream off" in upload


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    unit = tmp_path / "outcomes.service"
    text = (DEPLOY / "outcomes.service").read_text().replace("/opt/outcomes/bin/outcomes", "/bin/true")
    unit.write_text(text.replace("User=outcomes", "User=root"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "outcomes.service" not in checked.stderr, checked.stderr


def test_patroni_keeps_every_acknowledged_commit_on_a_second_machine() -> None:
    settings = load("patroni/patroni.yaml")[0]["bootstrap"]["dcs"]
    assert (settings["synchronous_mode"], settings["synchronous_mode_strict"]) == (True, True)
    assert UNSAFE_SETTINGS.keys() <= settings["postgresql"]["parameters"].keys()
    assert settings["loop_wait"] + 2 * settings["retry_timeout"] <= settings["ttl"], "or Patroni changes them"


def test_the_environment_of_a_patroni_node_is_the_one_that_is_tested(tmp_path: Path) -> None:
    example = (DEPLOY / "patroni" / "node.env.example").read_text()
    assert set(re.findall(r"^(\w+)=", example, re.MULTILINE)) == Node("pg1", tmp_path, 2379).environ.keys()

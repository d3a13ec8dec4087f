"""The files in deploy/ match the service: their commands parse; their settings, probes and metrics exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from service.cli import outcomes
from service.settings import NAMES, SECRETS
from service.store.database import UNSAFE_SETTINGS
from service.telemetry.metrics import Metrics
from tests.guarantees.patroni import Node

DEPLOY = Path(__file__).parents[2] / "deploy"
RUNBOOK = (DEPLOY.parent / "docs" / "operate" / "runbook.md").read_text()
KNOWN = NAMES.keys() | {f"{name}_FILE" for name in SECRETS}


def load(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


KUBERNETES = load("kubernetes/outcomes.yaml")
COMPOSE = load("compose.yaml")[0]["services"]


def find_containers() -> Iterator[dict[str, Any]]:
    for document in KUBERNETES:
        if document["kind"] in {"Job", "Deployment"}:
            yield from document["spec"]["template"]["spec"]["containers"]


def parse(arguments: list[str]) -> None:
    """Parses an ``outcomes`` command line without running it."""
    command, rest = outcomes.commands[arguments[0]], list(arguments[1:])
    if isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    with command.make_context(arguments[0], rest):
        pass


def test_every_command_line_parses() -> None:
    lines = [container["args"] for container in find_containers()]
    lines += [service["command"] for service in COMPOSE.values() if "build" in service]
    unit = (DEPLOY / "outcomes.service").read_text()
    lines += [match.split() for match in re.findall(r"^ExecStart=\S+/outcomes (.+)$", unit, re.MULTILINE)]
    docker = (DEPLOY / "Dockerfile").read_text()
    lines += [[re.findall(r'^CMD \["(\w+)"\]$', docker, re.MULTILINE)[-1]]]
    assert len(lines) == 7
    for arguments in lines:
        parse(arguments)


def test_a_wrong_command_line_is_detected() -> None:
    with pytest.raises(click.UsageError):
        parse(["serve", "--prot=1"])


def test_every_setting_exists() -> None:
    names = [variable["name"] for container in find_containers() for variable in container["env"]]
    names += [name for service in COMPOSE.values() if "build" in service for name in service.get("environment", {})]
    assert len(names) > 10
    assert set(names) <= KNOWN


def test_every_probe_asks_for_a_path_that_is_served() -> None:
    source = "".join(file.read_text() for file in (DEPLOY.parent / "service" / "web").glob("*.py"))
    paths = [
        probe["httpGet"]["path"]
        for container in find_containers()
        for name, probe in container.items()
        if name.endswith("Probe")
    ]
    assert len(paths) == 3
    for path in paths:
        assert f'"{path}"' in source


def test_every_manifest_selects_existing_pods() -> None:
    (labels,) = [d["spec"]["template"]["metadata"]["labels"] for d in KUBERNETES if d["kind"] == "Deployment"]
    selectors = [d["spec"]["selector"] for d in KUBERNETES if d["kind"] == "Service"]
    selectors += [
        d["spec"]["selector"]["matchLabels"] for d in KUBERNETES if d["kind"] in {"Deployment", "PodDisruptionBudget"}
    ]
    assert len(selectors) == 3
    for selector in selectors:
        assert selector.items() <= labels.items()
    for container in find_containers():
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


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
        anchor = rule["annotations"]["runbook"].partition("#")[2]
        named = re.findall(r'name=~"([^"]+)"', rule["expr"])
        expected = named[0].split("|") if anchor.startswith("{{") else [anchor]
        assert set(expected) <= headings


def test_the_image_contains_everything_that_the_wheel_is_built_from() -> None:
    docker, ignored = (DEPLOY / "Dockerfile").read_text(), (DEPLOY.parent / ".dockerignore").read_text()
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", docker, re.MULTILINE)
        for name in line.split()[:-1]
    ]  # fmt: skip
    assert {"pyproject.toml", "requirements.lock", "service", "sql"} <= set(copied)
    for name in copied:
        assert (DEPLOY.parent / name).exists()
        assert f"!{name}" in ignored.splitlines()
    assert re.search(r"^USER \d+$", docker, re.MULTILINE)


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

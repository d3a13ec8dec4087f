"""The tables in the docs are the ones that the code generates, and each of them is on a page."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from docs.generate import PROMETHEUS_RULE, ROOT, fill, list_pages, make_tables, write_prometheus_rule
from service.settings import NAMES, SYNC_NAMES
from service.telemetry.metrics import Metrics


@pytest.fixture
async def document(service: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await service.get("/openapi.json")).json()
    return document


async def test_no_generated_table_is_stale(document: dict[str, Any], subtests: pytest.Subtests) -> None:
    tables = make_tables(document)
    for page in list_pages():
        with subtests.test(page=str(page.relative_to(ROOT))):
            assert page.read_text() == fill(page.read_text(), tables), "run `make docs`"


def test_the_alert_rules_for_kubernetes_are_those_for_prometheus() -> None:
    assert PROMETHEUS_RULE.read_text() == write_prometheus_rule(), "run `make docs`"


async def test_every_generated_table_is_on_a_page(document: dict[str, Any]) -> None:
    named = [name for page in list_pages() for name in re.findall(r"made by make docs: (\w+)", page.read_text())]
    assert sorted(named) == sorted(make_tables(document))


async def test_every_setting_metric_operation_and_error_has_a_row(document: dict[str, Any]) -> None:
    tables = make_tables(document)
    for name in NAMES:
        assert f"| `{name}`" in tables["settings"]
    for name in SYNC_NAMES:
        assert f"| `{name}`" in tables["crm_settings"]
    for family in Metrics().registry.collect():
        if family.name.startswith("outcomes_"):
            assert f"| `{family.name}" in tables["metrics"]
    source = "".join(file.read_text() for file in Path(ROOT / "service").rglob("*.py"))
    routes = re.findall(r'Operation\(\s*"(\w+)",\s*"([^"]+)"', source)
    assert len(routes) > 10
    for method, path in routes:
        assert f"| `{method} {path}` |" in tables["calls"]
    for kind in re.findall(r'error_type="(\w+)"', source):
        assert f"| `{kind}` |" in tables["provider_errors"]
    for kind in re.findall(r'^    type = "(\w+)"', source, re.MULTILINE):
        assert f"| `{kind}` |" in tables["errors"]

"""Every package that the service needs to run is listed, and its licence asks only for a notice."""

import pytest

from tests.licences import NAME, PATH, find_runtime, is_allowed, read_licence, write_licences


def test_the_page_of_licences_is_up_to_date() -> None:
    assert PATH.read_text() == write_licences(), "run make licences"


def test_every_runtime_package_has_an_allowed_licence() -> None:
    packages = find_runtime("otel") | find_runtime("embedded")
    assert {"starlette", "uvicorn", "asyncpg", "httpx", "structlog"} <= packages.keys()
    assert NAME not in packages
    refused = {name: read_licence(package) for name, package in packages.items()}
    assert {name: licence for name, licence in refused.items() if not is_allowed(licence)} == {}


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "MIT AND AGPL-3.0-or-later", "unknown", ""])
def test_a_licence_that_is_not_allowed_is_refused(licence: str) -> None:
    assert not is_allowed(licence)

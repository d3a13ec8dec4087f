"""Where nothing is wrong the doctor says so, in both forms, and ends with 0."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.sandbox import SandboxOptions, serve_sandbox
from service.store.database import Database
from tests.doctor.examining import STRONG_KEY, STRONG_SECRET, list_troubles
from tests.factories import make_payload, post_webhook, store_batch
from tests.processes import OUTCOMES, Finished, run, serve

KEY = "provider-key-of-ours"


@pytest.fixture
async def service_url(database: Database) -> AsyncIterator[str]:
    """The test's database, by a role of the service's own."""
    role = f"healthy_{urlsplit(database.url).path[1:]}"
    await database.pool.execute(f"CREATE ROLE {role} LOGIN; GRANT pg_read_all_stats TO {role}")
    granted = await run(OUTCOMES, "grant-service", role, OUTCOMES_DATABASE_URL=database.url)
    assert granted.status == 0, granted.errors
    yield database.url.replace("//postgres@", f"//{role}@")
    await database.pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_healthy_system_is_ok_in_every_line_and_ends_with_0(database: Database, service_url: str) -> None:
    await store_batch(database.url, 3)
    async with serve_sandbox(SandboxOptions(api_keys=(KEY,)), port=0) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": service_url,
            "OUTCOMES_MIGRATE_ON_START": "0",
            "OUTCOMES_API_KEY": STRONG_KEY,
            "FORMANT_WEBHOOK_SECRET": STRONG_SECRET,
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        async with serve(**settings) as serving:
            assert (await post_webhook(serving.client, make_payload(), secret=STRONG_SECRET)).status_code == 204
            url = str(serving.client.base_url).rstrip("/")
            arguments = ("doctor", "--url", url, "--webhook-url", f"{url}/webhooks/formant")
            plain = await run(OUTCOMES, *arguments, **settings)
            as_json = await run(OUTCOMES, *arguments, "--json", **settings)
            quarantine = await database.pool.fetchval("SELECT count(*) FROM quarantine")
            events = await database.pool.fetchval("SELECT count(*) FROM events")
    assert (list_troubles(plain.output), plain.errors, as_json.errors) == ([], "", "")
    lines = plain.output.splitlines()
    if all(line.startswith("ok ") for line in lines[:-1]):  # else this machine was too busy for a commit in time
        assert (plain.status, lines[-1]) == (0, f"{len(lines) - 1} ok, 0 unchecked, 0 warnings, 0 problems")
    report = json.loads(as_json.output)
    if report["counts"]["ok"] == len(report["findings"]):
        assert (as_json.status, report["status"]) == (0, "ok")
    assert len(report["findings"]) >= 35
    assert len({finding["check"] for finding in report["findings"]}) >= 33
    assert (quarantine, events) == (0, 1), "probing stored nothing"
    assert_holds_nothing_secret(plain, as_json)


def assert_holds_nothing_secret(*finished: Finished) -> None:
    for each in finished:
        for secret in (STRONG_KEY, STRONG_SECRET, KEY):
            assert secret not in each.output + each.errors


async def test_before_a_first_start_nothing_is_made(tmp_path: Path) -> None:
    settings = {"OUTCOMES_DATA_DIR": f"{tmp_path}/data", "FORMANT_WEBHOOK_SECRET": STRONG_SECRET}
    settings["OUTCOMES_API_KEY"] = STRONG_KEY
    plain = await run(OUTCOMES, "doctor", "--no-service", "--json", **settings)
    assert plain.status == 0, plain.output
    report = json.loads(plain.output)
    (answer,) = [finding for finding in report["findings"] if finding["check"] == "database.answer"]
    assert (answer["level"], "OUTCOMES_DATABASE_URL" in answer["remedy"]) == ("unchecked", True)
    assert not (tmp_path / "data").exists()

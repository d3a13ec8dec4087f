"""Targets of the file: each with its own address, its own secrets and, where it says so, its own agents."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.errors import ConfigurationError
from service.store.database import Database
from tests.conftest import SECRET, StartService
from tests.exposition import read_metric
from tests.factories import encode, make_payload, post_webhook, store_batch

TARGETS = """
[targets.india]
secrets = ["india-new", "india-old"]
agents = [123, 124]

[targets.global-2]
secrets = ["global-secret"]
"""
PATH = "/webhooks/formant"
INDIA = f"{PATH}/india"


@pytest.fixture
async def service(start_service: StartService, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    path = tmp_path / "targets.toml"
    path.write_text(TARGETS)
    async with start_service(OUTCOMES_TARGETS_FILE=str(path)) as client:
        yield client


async def test_every_target_takes_what_its_own_secrets_signed_and_nothing_else(
    service: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    secrets = {"default": {SECRET}, "india": {"india-new", "india-old"}, "global-2": {"global-secret"}}
    for target, secret in itertools.product(secrets, set().union(*secrets.values())):
        path = PATH if target == "default" else f"{PATH}/{target}"
        event_id = f"{target}, {secret}"
        with subtests.test(event_id):
            answer = await post_webhook(service, make_payload(event_id=event_id), secret=secret, path=path)
            assert answer.status_code == (204 if secret in secrets[target] else 401)
            if secret in secrets[target]:
                assert (await service.get(f"/v1/events/{event_id}")).json()["data"]["target"] == target
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 4
    for target, own in secrets.items():
        refused = await read_metric(service, "outcomes_webhooks_total", target=target, answer="authentication_error")
        assert refused == 4 - len(own)


async def test_the_secrets_of_a_target_are_counted_one_by_one(service: httpx.AsyncClient) -> None:
    for secret in ("india-old", "india-old", "india-new"):
        await post_webhook(service, make_payload(), secret=secret, path=INDIA)
    used = "outcomes_webhook_secret_used_total"
    assert await read_metric(service, used, target="india", secret="1") == 1
    assert await read_metric(service, used, target="india", secret="2") == 2


async def test_an_unknown_target_is_not_found_and_makes_no_label_of_its_own(service: httpx.AsyncClient) -> None:
    unknown = ("nowhere", "nowhere/", "india/more", "INDIA", "%00")
    for name in unknown:
        answer = await post_webhook(service, make_payload(), secret="india-new", path=f"{PATH}/{name}")
        assert answer.status_code == 404, name
        assert answer.json()["error"]["type"] == "not_found"
    assert await read_metric(service, "outcomes_webhooks_total", target="unknown", answer="not_found") == len(unknown)
    assert 'target="nowhere"' not in (await service.get("/metrics")).text


async def test_a_path_that_only_begins_like_the_receivers_is_none_of_its(service: httpx.AsyncClient) -> None:
    assert (await post_webhook(service, make_payload(), path="/webhooks/formants")).status_code == 404
    assert await read_metric(service, "outcomes_webhooks_total", target="unknown", answer="not_found") == 0


async def test_an_agent_that_the_target_does_not_name_goes_to_quarantine_with_its_body(
    service: httpx.AsyncClient, database: Database, database_url: str
) -> None:
    await store_batch(database_url, agent_id=999)
    body = encode(make_payload(recipient=1, agent_id=999, event_id="foreign"))
    assert (await post_webhook(service, body, secret="india-new", path=INDIA)).status_code == 204
    event = (await service.get("/v1/events/foreign")).json()["data"]
    assert (event["disposition"], event["reason"], event["target"]) == ("quarantined", "agent_not_allowed", "india")
    assert await database.pool.fetchval("SELECT body FROM quarantine") == body
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"]["processed"] == 0


async def test_an_agent_that_the_target_names_is_counted(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url, agent_id=124)
    payload = make_payload(recipient=1, agent_id=124, event_id="own")
    assert (await post_webhook(service, payload, secret="india-old", path=INDIA)).status_code == 204
    assert (await service.get("/v1/events/own")).json()["data"]["disposition"] == "applied"


async def test_targets_are_enough_without_a_default_one(start_service: StartService, tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(TARGETS)
    async with start_service(OUTCOMES_TARGETS_FILE=str(path), FORMANT_WEBHOOK_SECRET="") as service:
        assert (await post_webhook(service, make_payload(), secret="india-new", path=INDIA)).status_code == 204
        assert (await post_webhook(service, make_payload())).status_code == 404


WRONG_FILES = {
    "[targets.india]\nsecrets = []": "targets.india.secrets",
    '[targets.india]\nsecrets = [""]': "targets.india.secrets",
    '[targets.India]\nsecrets = ["s"]': "targets.India",
    '[targets.default]\nsecrets = ["s"]': "targets.default",
    '[targets.india]\nsecrets = ["s"]\nagent = [1]': "agent",
    "[targets": "targets.toml",
}


async def test_a_wrong_targets_file_stops_the_start_and_names_what_is_wrong(
    start_service: StartService, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    path = tmp_path / "targets.toml"
    for content, named in WRONG_FILES.items():
        path.write_text(content)
        with subtests.test(content):
            with pytest.raises(ConfigurationError, match="OUTCOMES_TARGETS_FILE") as raised:
                async with start_service(OUTCOMES_TARGETS_FILE=str(path)):
                    pass
            assert named in str(raised.value)

"""The way of webhooks is proven without storing anything, whatever stands at the address."""

import pytest

from service.doctor.findings import Level
from service.store.database import Database
from service.webhooks.backlog import BacklogLimits
from tests.conftest import SECRET, StartService
from tests.doctor.examining import examine, find, find_one
from tests.doctor.http_server import answer, answering
from tests.factories import make_payload, post_webhook, store_batch

STORED = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM quarantine)"


async def test_the_probe_is_refused_as_it_should_be_stores_nothing_and_raises_no_alarm(
    start_service: StartService, database: Database
) -> None:
    async with start_service() as service:
        url = f"{service.base_url}/webhooks/formant"
        found = find_one(await examine(None, webhook_url=url), "webhooks.address", Level.OK)
        assert "refused as expected" in found.message
        counted = (await service.get("/metrics")).text
        alarms = (await service.get("/v1/alarms")).json()["data"]
    assert 'outcomes_webhooks_total{answer="authentication_error",target="default"} 1.0' in counted
    assert alarms == []
    assert await database.pool.fetchval(STORED) == 0


async def test_an_address_that_leads_elsewhere_is_reported(start_service: StartService) -> None:
    async with start_service() as service:
        base = str(service.base_url)
        for path, message, remedy in (
            ("/webhooks/formant/nobody", "no such target", "OUTCOMES_TARGETS_FILE"),
            ("/webhooks/formants", "by another service", "deploy/nginx.conf"),
            ("/healthz", "does not lead to", "/webhooks/formant"),
        ):
            found = find_one(await examine(None, webhook_url=base + path), "webhooks.address", Level.PROBLEM)
            assert (message in found.message, remedy in found.remedy) == (True, True), found
    found = find_one(
        await examine(None, webhook_url="http://127.0.0.1:9/webhooks/formant"), "webhooks.address", Level.PROBLEM
    )
    assert ("does not answer" in found.message, "DNS" in found.remedy) == (True, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (answer(301, "", "location: https://elsewhere.example/"), "redirect"),
        (answer(502, "<html>Bad Gateway"), "by a proxy"),
        (answer(200, "<html>Welcome"), "not by this service"),
        (answer(404, '{"error": {"message": "unknown page"}}'), "by another service"),
    ],
)
async def test_what_stands_before_the_service_is_reported_by_its_answer(given: bytes, message: str) -> None:
    async with answering(lambda _: given) as url:
        findings = await examine(None, webhook_url=f"{url}/webhooks/formant")
    assert message in find_one(findings, "webhooks.address", Level.PROBLEM).message


async def test_where_it_might_be_stored_unsigned_no_post_is_sent(
    start_service: StartService, database: Database
) -> None:
    unsigned = {"FORMANT_WEBHOOK_SECRET": "", "OUTCOMES_ALLOW_UNSIGNED": "1"}
    async with start_service(BacklogLimits(), **unsigned) as service:
        url = f"{service.base_url}/webhooks/formant"
        found = find_one(await examine(None, unsigned, webhook_url=url), "webhooks.address", Level.UNCHECKED)
        assert "No POST was sent" in found.message
        assert await database.pool.fetchval(STORED) == 0
        # With settings of another service the one probe ends in quarantine, and the finding says so.
        found = find_one(await examine(None, webhook_url=url), "webhooks.address", Level.PROBLEM)
        assert "anyone may post" in found.message
        assert await database.pool.fetchval(STORED) == 1


async def test_plain_http_and_a_slow_way_are_reported(start_service: StartService) -> None:
    async with start_service() as service:
        url = f"{service.base_url}/webhooks/formant"
        slow = await examine(None, webhook_url=url, limits={"webhook_seconds": (0.0, 8.0)})
    assert "gives up after 10 s" in find_one(slow, "webhooks.address", Level.WARNING).remedy
    clear = await examine(None, webhook_url="http://public.invalid/webhooks/formant")
    assert "unencrypted" in find_one(clear, "webhooks.address", Level.WARNING).message
    assert find_one(clear, "webhooks.address", Level.PROBLEM)


async def test_when_the_last_genuine_webhook_came_is_reported_for_each_target(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url, 3)
    found = find_one(await examine(database.url), "webhooks.last", Level.UNCHECKED)
    assert ("is unproven" in found.message, "test call" in found.remedy) == (True, True)
    async with start_service() as service:
        assert (await post_webhook(service, make_payload())).status_code == 204
        assert (await post_webhook(service, make_payload(recipient=None, phone="+1999"))).status_code == 204
    (found,) = find(await examine(database.url, FORMANT_WEBHOOK_SECRET=SECRET), "webhooks.last")
    assert (found.level, found.message.startswith("default: the last webhook was stored")) == (Level.OK, True)

"""The task that commits webhooks dies: they are refused, readiness says so, and it is started again."""

import httpx
import pytest

from service.webhooks.committer import Committer
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook


async def test_while_the_committer_is_dead_webhooks_are_refused_and_the_service_is_not_ready(
    service: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise ValueError("died")

    with monkeypatch.context() as broken:
        broken.setattr(Committer, "_commit", die)
        refused = await post_webhook(service, make_payload(event_id="refused"))
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        unready = await service.get("/readyz")
        assert (unready.status_code, "has died" in unready.json()["status"]) == (503, True)
    assert await read_metric(service, "outcomes_background_failures_total", task="committer") >= 1
    await eventually(lambda: service.get("/readyz"), lambda answer: answer.status_code == 200)
    assert (await post_webhook(service, make_payload(event_id="refused"))).status_code == 204
    assert (await service.get("/v1/events/refused")).status_code == 200

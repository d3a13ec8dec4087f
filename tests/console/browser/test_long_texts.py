"""Text from outside may be long, without a space, and still nothing is wider than a phone."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from service.store.database import Database
from tests.console.browser.conftest import SMALL, SignIn
from tests.factories import make_payload, post_webhook, store_batch

LONG = "w" * 10_000
NAME = "n" * 200
BATCH = "/console/batches/456"


@pytest.mark.timeout(120)
async def test_long_texts_widen_no_page(service: httpx.AsyncClient, database: Database, sign_in: SignIn) -> None:
    await store_batch(database.url, 3, prepared_at=datetime.now(UTC))
    await store_batch(database.url, 3, batch_id=457, ref_token="0ther")
    await database.pool.execute("UPDATE batches SET name = $1", NAME)
    await database.pool.execute("UPDATE recipients SET parameters = $1", json.dumps({LONG: LONG}))
    for payload in (
        make_payload(results={LONG: LONG, "callback_time": LONG}),
        make_payload(recipient=2, status="failed", conversation_id="c" * 500),
        make_payload(recipient=None, agent_id=9, event_id="e" * 100, phone="+919876543210"),
    ):
        payload["data"]["call"]["failure_reason"] = LONG
        assert (await post_webhook(service, payload)).status_code == 204
    waiting = await database.pool.fetchval("SELECT arrival_id FROM unattributed")
    person = await sign_in(service, viewport=SMALL)
    paths = (
        "/console", BATCH, f"{BATCH}?by=results.callback_time", f"{BATCH}/people", f"{BATCH}/people/1",
        f"{BATCH}/people/2", "/console/compare?left=batch:456&right=batch:457", "/console/health/unattributed",
        f"/console/health/unattributed/{waiting}",
        "/console/health/audit", "/console/health/sessions", f"/console?q={NAME}",
    )  # fmt: skip
    for number, path in enumerate(paths):
        await person.go(path)
        await person.check(f"long-{number}")
    await person.go(f"{BATCH}/people/1")
    await person.press("Show the person")
    await person.check("long-revealed")

"""A page refuses filters that it does not have, and Today finds batches by campaign and state."""

import html
import re
from datetime import UTC, datetime

import httpx
import pytest

from tests.conftest import StartService
from tests.console.visiting import sign_in
from tests.factories import store_batch
from tests.provider import connect_provider, upload

BATCH = "/console/batches/456"
HEALTH = "/console/health"


@pytest.mark.parametrize(
    "path",
    [
        "/console", "/console/today/running", BATCH, f"{BATCH}/live", f"{BATCH}/people", f"{BATCH}/people/1",
        f"{BATCH}/people.csv", "/console/people", "/console/callbacks", "/console/callbacks.csv", "/console/compare",
        "/console/upload", "/console/uploads", "/console/connections", HEALTH, f"{HEALTH}/webhooks", f"{HEALTH}/audit",
        f"{HEALTH}/keys", f"{HEALTH}/sessions", f"{HEALTH}/quarantine", f"{HEALTH}/unattributed", f"{HEALTH}/erasures",
        f"{HEALTH}/suppressions", f"{HEALTH}/doctor/report",
    ],
)  # fmt: skip
async def test_an_unknown_filter_is_refused_by_every_page(
    service: httpx.AsyncClient, database_url: str, path: str
) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    answer = await visitor.get(f"{path}?%3Cb%3Ecolour=red")
    assert answer.status_code == 400
    assert "<b>colour: is not a parameter of this page" in html.unescape(answer.text)
    assert "<b>colour" not in answer.text


async def test_a_slip_is_answered_with_what_was_meant(service: httpx.AsyncClient) -> None:
    answer = await (await sign_in(service)).get("/console?agentid=7")
    assert (answer.status_code, "did you mean agent_id?" in answer.text) == (400, True)


async def test_today_finds_batches_by_campaign_and_state(start_service: StartService, database_url: str) -> None:
    async with connect_provider(start_service) as (service, _):
        rows = "".join(f"+9198765432{number:02}\n" for number in range(10))
        for name in ("Tested", "Other"):
            answer = await upload(service, f"customer_phone\n{rows}", name=name, test_recipients="3", force="true")
            assert answer.status_code == 200, answer.text
        await store_batch(database_url, batch_id=999, prepared_at=datetime.now(UTC))
        visitor = await sign_in(service)

        async def find(query: str) -> list[str]:
            page = await visitor.read(f"/console?{query}")
            listed = page[page.index('id="earlier"') :]
            return sorted(re.findall(r'<th scope="row"><a href="/console/batches/\d+">([^<]+)</a>', listed))

        assert await find("state=all") == ["March Follow Ups", "Other (test)", "Tested (test)"]
        assert await find("state=running") == ["March Follow Ups"]
        assert await find("state=finished") == await find("") == ["Other (test)", "Tested (test)"]
        assert await find("state=all&campaign_id=1") == ["Tested (test)"]
        page = await visitor.read("/console?state=all")
        assert 'href="/console?state=all&amp;campaign_id=1#earlier"' in page
        for query in ("state=x", "campaign_id=x"):
            assert (await visitor.get(f"/console?{query}")).status_code == 400


async def test_forms_refuse_unknown_parameters_as_pages_do(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    for path, said in (
        ("/console/upload/check?agent_id=7&regoin=IN", "regoin: is not a parameter of this page; did you mean region?"),
        ("/console/callbacks?stat=open", "stat: is not a parameter of this page; did you mean state?"),
        (f"{BATCH}/reconcile?force=true", "force: is not a parameter of this page; it has none"),
    ):
        answer = await visitor.post(path)
        assert (answer.status_code, said in html.unescape(answer.text)) == (400, True), path

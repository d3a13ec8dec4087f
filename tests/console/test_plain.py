"""Messages of the API lose its calls on pages, and nothing else."""

import httpx
import pytest

from service.console.plain import hide_calls
from tests.console.visiting import sign_in
from tests.factories import store_batch


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Upload 7 was not sent: refused (see GET /v1/suppressions)", "Upload 7 was not sent: refused"),
        ("It is looked for (upload 7: see GET /v1/uploads/7)", "It is looked for (upload 7)"),
        ("Upload 7 was resolved meanwhile: see GET /v1/uploads/7", "Upload 7 was resolved meanwhile"),
        ("It may call people; if you know, say so: POST /v1/uploads/7/resolve", "It may call people"),
        ("settle that one first (POST /v1/uploads/7/resolve)", "settle that one first"),
        ("agent 7 has no goal; set one first with PUT /v1/agents/7/goal", "agent 7 has no goal"),
        ("the columns differ (GET /v1/agents/7/columns shows them)", "the columns differ"),
        ("It has its place already: GET /v1/events/{event_id} shows it", "It has its place already"),
        ("name: takes 1 to 80 letters (such as GET)", "name: takes 1 to 80 letters (such as GET)"),
    ],
)
def test_calls_are_hidden(message: str, shown: str) -> None:
    assert hide_calls(message) == shown


async def test_no_page_sends_its_reader_to_the_api(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    answer = await (await sign_in(service)).post("/console/callbacks/456/1", done="true", result="callback_time")
    assert (answer.status_code, "has no callback" in answer.text) == (404, True)
    assert "/v1/" not in answer.text

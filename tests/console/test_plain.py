"""Messages of the API lose its calls on pages, and nothing else."""

import re
import tempfile
from pathlib import Path

import httpx
import pytest

from service.plain import hide_calls, reword
from service.uploads.checking import Task, check_file
from service.uploads.report import ContactsOptions, Rejected
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


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("The body: Expected `str` of length <= 500 - at `$.note`; send JSON such as {\"done\": true}",
         "Note: at most 500 characters"),
        ("phone: write it with +, or send region=IN if it is a number of India",
         "Phone: write it with +"),
        ("phone: write it with +, or send region=, the country of the numbers without one, such as region=IN",
         "Phone: write it with +"),
        ("If it is theirs nevertheless, send accept_phone true",
         "If it is theirs nevertheless, tick that the phone may differ"),
    ],
)  # fmt: skip
def test_a_page_without_a_field_does_not_ask_for_one(message: str, shown: str) -> None:
    assert reword(message, has_country=False) == shown


def test_rows_that_are_given_back_speak_of_choices() -> None:
    file = "customer_phone,name\n98765 43210,Asha\n+919876543210,Ravi\n+919876543210,Ravi\n"
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder, "in.csv"), Path(folder, "copy")
        path.write_text(file)
        rejected = Rejected(batch_key=1, copy_path=str(copy))
        task = Task(path=str(path), options=ContactsOptions(), parts=(), test_recipients=0, seed=0, rejected=rejected)
        check_file(task, lambda _: None)
        given_back = copy.read_text()
    assert "choose the country" in given_back or "IN if it is" in given_back
    assert "choose what to do with repeated numbers" in given_back
    assert not re.search(r"send |=IN|duplicates=", given_back)

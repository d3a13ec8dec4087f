"""The upload page: a file is checked, corrected and checked again, and only what was shown and ticked is sent, once."""

import asyncio
from typing import Any

import pytest

from service.access.keys import Keys
from service.plain import reword
from service.store.database import Database
from tests.conftest import StartService
from tests.console.uploading import Form, browse, read_form, visit
from tests.provider import CONTACTS, connect_provider, count_uploads

SCRIPT = "<script>alert(1)</script>"
HOSTILE = f'"><img src=x onerror=alert(1)>{SCRIPT}\u202e'


async def test_a_checked_and_ticked_file_is_uploaded_and_leads_to_its_batch(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, sandbox):
        page = await visitor.check()
        assert "2 people will be called now" in page
        assert count_uploads(sandbox) == (0, 0)
        answer = await visitor.call(read_form(page))
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/batches/456")
        assert count_uploads(sandbox) == (1, 0)


async def test_the_browser_that_waits_for_a_part_of_the_page_is_led_on_too(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, _):
        form = read_form(await visitor.check())
        headers = {"hx-request": "true", "idempotency-key": form.key}
        answer = await visitor.post("", headers=headers, report_digest=form.report_digest)
        assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/console/batches/456")


async def test_the_same_form_again_uploads_once(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, sandbox):
        form = read_form(await visitor.check())
        answers = await asyncio.gather(*(visitor.call(form) for _ in range(3)))
        assert {answer.status_code for answer in answers} <= {303, 409}
        again = await visitor.call(form)
        assert (again.status_code, again.headers["location"]) == (303, "/console/batches/456")
        assert count_uploads(sandbox) == (1, 0)


async def test_a_new_form_for_the_same_file_asks_whether_its_people_are_called_again(
    start_service: StartService,
) -> None:
    async with visit(start_service) as (visitor, sandbox):
        first, second = read_form(await visitor.check()), read_form(await visitor.check())
        assert (await visitor.call(first)).status_code == 303
        refused = await visitor.call(second)
        assert (refused.status_code, "are being called already" in refused.text) == (409, True)
        page = await visitor.check()
        assert "This file was uploaded before" in page
        assert 'name="report_digest"' not in page
        assert count_uploads(sandbox) == (1, 0)
        forced = await visitor.call(read_form(await visitor.check(force="true")), force="true")
        assert forced.status_code == 303


@pytest.mark.parametrize("missing", ["tick", "key"])
async def test_nothing_is_sent_without_the_tick_or_the_key_of_the_form(
    start_service: StartService, missing: str
) -> None:
    async with visit(start_service) as (visitor, sandbox):
        form = read_form(await visitor.check())
        headers = {} if missing == "key" else {"idempotency-key": form.key}
        query = {} if missing == "tick" else {"report_digest": form.report_digest}
        answer = await visitor.post("", headers=headers, **query)
        assert (answer.status_code, "nothing was sent" in answer.text) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_a_file_or_a_choice_that_changed_after_the_check_is_refused(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, sandbox):
        form = read_form(await visitor.check())
        more = CONTACTS + "+919900000003,Ravi,LN-3,1\n"
        for answer in (
            await visitor.call(form, more),
            await visitor.call(form, duplicates="all"),
            await visitor.call(form, test_recipients="1"),
        ):
            assert (answer.status_code, "check the file again" in answer.text) == (409, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_a_file_with_mistakes_is_corrected_on_the_page(start_service: StartService) -> None:
    content = "Name;Mobile No\nJosé;9876543210\nRavi;12\nAsha;9876543211\nAgain;9876543210\n".encode("cp1252")
    async with visit(start_service) as (visitor, sandbox):
        page = await visitor.check(content)
        assert "choose the phone column" in page
        assert '<option value="Mobile No">' in page
        chosen: dict[str, Any] = {"phone_column": "Mobile No", "region": "IN"}
        page = await visitor.check(content, **chosen)
        assert "2 rows have errors" in page
        assert "Guessed: windows-1252" in page
        assert "Found: semicolon" in page
        assert "is too short" in page
        assert 'name="report_digest"' not in page
        rows = (await visitor.post("/rejected.csv", content, **chosen)).text.splitlines()
        assert len(rows) == 2
        assert rows[1].startswith("Ravi,12,")
        chosen |= {"invalid": "skip", "duplicates": "first"}
        page = await visitor.check(content, **chosen)
        assert "2 people will be called now" in page
        assert (await visitor.call(read_form(page), content, **chosen)).status_code == 303
        assert count_uploads(sandbox) == (1, 0)


async def test_a_test_says_how_many_are_called_now_and_how_many_wait(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, _):
        page = await visitor.check(test_recipients="1")
        assert "1 person will be called now" in page
        assert "and 1 waits for the test" in page
        answer = await visitor.call(read_form(page), test_recipients="1")
        assert answer.status_code == 303
        too_large = await visitor.check(test_recipients="2")
        assert 'name="report_digest"' not in too_large


async def test_people_who_must_not_be_called_are_shown_and_not_counted(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        suppressed = {"phones": ["+919876543210"], "reason": HOSTILE, "source": "crm"}
        assert (await service.post("/v1/suppressions", json=suppressed)).status_code == 200
        async with browse(service) as visitor:
            page = await visitor.check()
        assert "1 person will be called now" in page
        assert "Must not be called" in page
        assert "<img" not in page


async def test_columns_that_differ_from_the_agents_are_shown_and_can_be_accepted(start_service: StartService) -> None:
    renamed = CONTACTS.replace("loan_id", "Loan")
    async with visit(start_service) as (visitor, _):
        assert (await visitor.call(read_form(await visitor.check()))).status_code == 303
        page = await visitor.check(renamed, name="Other")
        assert "The columns differ" in page
        assert 'name="report_digest"' not in page
        assert 'name="report_digest"' in await visitor.check(renamed, name="Other", accept_columns="true")


async def test_what_outsiders_write_is_shown_as_text(start_service: StartService) -> None:
    long = "x" * 10_000
    content = f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",customer_phone\n{SCRIPT},12\n{long},{SCRIPT}\n'
    async with visit(start_service) as (visitor, _):
        answer = await visitor.post("/check", content, file_name=f"{HOSTILE}.csv".replace("\u202e", ""), name=HOSTILE)
        assert answer.status_code == 200
        assert "&lt;img" in answer.text
        for query in ({"phone_column": HOSTILE}, {"sheet": HOSTILE}, {"region": HOSTILE}, {"test_recipients": HOSTILE}):
            refused = await visitor.check(content, **query)
            assert "<img" not in refused
            assert SCRIPT not in refused
        page = (await visitor.client.get("/console/upload", params={"agent_id": HOSTILE, "name": HOSTILE})).text
        for text in (answer.text, page):
            assert "<img" not in text
            assert SCRIPT not in text


async def test_a_file_without_the_token_is_refused_unread(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, sandbox):
        form = read_form(await visitor.check())
        visitor.token = "wrong"
        for path in ("/check", "/rejected.csv"):
            assert (await visitor.post(path)).status_code == 403
        assert (await visitor.call(form)).status_code == 403
        assert count_uploads(sandbox) == (0, 0)


async def test_uploading_needs_its_permission(start_service: StartService, database: Database) -> None:
    reader = await Keys(database).create("reader", ("read",), None)
    uploader = await Keys(database).create("uploader", ("upload",), None)
    async with connect_provider(start_service) as (service, sandbox):
        async with browse(service, reader.key) as visitor:
            assert (await visitor.client.get("/console/upload")).status_code == 403
            assert (await visitor.post("/check")).status_code == 403
            assert (await visitor.call(Form("0" * 64, "key"))).status_code == 403
        assert count_uploads(sandbox) == (0, 0)
        async with browse(service, uploader.key) as visitor:
            assert (await visitor.client.get("/console/upload")).status_code == 200


@pytest.mark.parametrize("is_fragment", [False, True])
async def test_who_may_upload_and_not_read_sees_what_was_sent(
    start_service: StartService, database: Database, is_fragment: bool
) -> None:
    uploader = await Keys(database).create("uploader", ("upload",), None)
    headers = {"hx-request": "true"} if is_fragment else {}
    async with connect_provider(start_service) as (service, sandbox), browse(service, uploader.key) as visitor:
        form = read_form(await visitor.check(name=HOSTILE))
        headers |= {"idempotency-key": form.key}
        for _ in range(2):  # the second time is a reload
            answer = await visitor.post("", headers=headers, report_digest=form.report_digest, name=HOSTILE)
            assert answer.status_code == 200
            assert "2 people are being called by agent 123" in answer.text
            assert "<dd>456</dd>" in answer.text
            assert "<img" not in answer.text
            assert answer.headers.get("hx-retarget") == ("#upload" if is_fragment else None)
        assert count_uploads(sandbox) == (1, 0)


async def test_who_may_not_read_sees_that_an_answer_was_lost(start_service: StartService, database: Database) -> None:
    uploader = await Keys(database).create("uploader", ("upload",), None)
    async with connect_provider(start_service) as (service, sandbox), browse(service, uploader.key) as visitor:
        form = read_form(await visitor.check())
        sandbox.sandbox.faults.next_upload = "refused_after_body"
        answer = await visitor.call(form)
        assert (answer.status_code, "is unknown and looked for" in answer.text) == (504, True)
        assert "/v1/" not in answer.text


async def test_an_agent_of_which_no_batch_is_known_is_doubted_before_anybody_is_called(
    start_service: StartService,
) -> None:
    doubt = "No batch of agent 123 is known yet"
    async with visit(start_service) as (visitor, _):
        page = await visitor.check()
        assert doubt in page
        assert "2 people will be called now</strong> by agent 123" in page
        assert (await visitor.call(read_form(page))).status_code == 303
        assert doubt not in await visitor.check(name="Other", force="true")


async def test_an_upload_whose_answer_is_lost_leads_to_the_question(start_service: StartService) -> None:
    async with visit(start_service) as (visitor, sandbox):
        form = read_form(await visitor.check())
        sandbox.sandbox.faults.next_upload = "refused_after_body"
        answer = await visitor.call(form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/uploads?state=unknown")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("file: line 1 has no column 'customer_phone'; 'Tel' holds phone numbers: send phone_column=Tel",
         "Line 1 has no column 'customer_phone'; 'Tel' holds phone numbers: choose the phone column"),
        ("remove the notes, or send invalid=skip", "Remove the notes, or choose to leave out rows with errors"),
        ("write the + in front of it, or send region=IN", "Write the + in front of it, or choose the country IN"),
        ("region: takes a country's two letters", "Country: takes a country's two letters"),
    ],
)  # fmt: skip
def test_errors_name_the_choices_of_the_page(message: str, words: str) -> None:
    assert reword(message) == words

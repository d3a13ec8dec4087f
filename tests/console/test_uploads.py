"""The list of uploads, an upload's report, and the question to a person where nobody knows whether it was sent."""

import time
from typing import Any

import httpx

from service.access.keys import Keys
from service.store.database import Database
from tests.conftest import StartService
from tests.console.uploading import Visitor, browse
from tests.provider import CONTACTS, connect_provider, count_uploads, upload
from tests.uploads.lost_uploads import OTHERS, lose, make_elsewhere, read

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


async def answer(visitor: Visitor, upload_id: int, **form: Any) -> httpx.Response:
    data = {"csrf_token": visitor.token, **form}
    return await visitor.client.post(f"/console/uploads/{upload_id}/resolve", data=data)


async def test_uploads_are_listed_with_their_state_and_each_has_its_report(start_service: StartService) -> None:
    content = CONTACTS + "12,Bad,LN-3,1\n"
    async with connect_provider(start_service) as (service, _), browse(service) as visitor:
        assert "No uploads yet" in (await visitor.client.get("/console/uploads")).text
        first = (await upload(service, content, invalid="skip", name=HOSTILE)).json()["data"]
        page = (await visitor.client.get("/console/uploads")).text
        assert 'href="/console/batches/456"' in page
        assert "&lt;script&gt;" in page
        one = (await visitor.client.get(f"/console/uploads/{first['upload_id']}")).text
        assert "Download the rejected rows" in one
        rows = (await visitor.client.get(f"/console/uploads/{first['upload_id']}/rejected.csv")).text.splitlines()
        assert rows[1].startswith("12,Bad,LN-3,1,")
        for text in (page, one):
            assert "<img" not in text
            assert "<script>alert" not in text
        assert "No such upload" in (await visitor.client.get("/console/uploads?state=failed")).text
        for path in ("999", "x", "999/rejected.csv"):
            assert (await visitor.client.get(f"/console/uploads/{path}")).status_code == 404


async def test_an_unknown_upload_is_a_question_that_a_batch_answers(start_service: StartService) -> None:
    async with (
        connect_provider(start_service, start=time.time()) as (service, sandbox),
        browse(service) as visitor,
    ):
        upload_id = await lose(service, sandbox)
        batch_id = await make_elsewhere(sandbox, HOSTILE, OTHERS)
        assert "See the evidence and decide" in (await visitor.client.get("/console/uploads")).text
        page = (await visitor.client.get(f"/console/uploads/{upload_id}")).text
        assert f'name="batch_id" value="{batch_id}"' in page
        assert "calls 2 people twice" in page
        assert "<img" not in page
        answered = await answer(visitor, upload_id, answer="sent", batch_id=str(batch_id))
        assert answered.status_code == 303
        assert (await read(service, upload_id))["batch_id"] == batch_id
        assert "Your answer is recorded" in (await visitor.client.get(answered.headers["location"])).text


async def test_never_sent_needs_its_tick_and_the_batches_that_it_is_not(start_service: StartService) -> None:
    async with (
        connect_provider(start_service, start=time.time()) as (service, sandbox),
        browse(service) as visitor,
    ):
        upload_id = await lose(service, sandbox)
        batch_id = await make_elsewhere(sandbox, "Another", OTHERS)
        for form in ({}, {"answer": "not_sent"}, {"answer": "sent"}, {"answer": "sent", "batch_id": "x"}):
            assert (await answer(visitor, upload_id, **form)).status_code == 400
        unseen = await answer(visitor, upload_id, answer="not_sent", sure="true")
        assert (unseen.status_code, "may have been sent" in unseen.text) == (409, True)
        assert (await read(service, upload_id))["state"] == "unknown"
        seen = await answer(visitor, upload_id, answer="not_sent", sure="true", not_these=[str(batch_id)])
        assert seen.status_code == 303
        assert (await read(service, upload_id))["state"] == "failed"
        assert count_uploads(sandbox)[0] == 1  # the one of the dashboard


async def test_the_question_is_asked_again_where_the_number_of_recipients_differs(start_service: StartService) -> None:
    async with (
        connect_provider(start_service, start=time.time()) as (service, sandbox),
        browse(service) as visitor,
    ):
        upload_id = await lose(service, sandbox)
        batch_id = await make_elsewhere(sandbox, "Another", "".join(OTHERS.splitlines(keepends=True)[:2]))
        form = {"answer": "sent", "other_batch_id": str(batch_id)}
        assert (await answer(visitor, upload_id, **form)).status_code == 400
        assert (await answer(visitor, upload_id, **form, accept_difference="true")).status_code == 303


async def test_readers_see_uploads_and_decide_nothing(start_service: StartService, database: Database) -> None:
    reader = await Keys(database).create("reader", ("read",), None)
    async with connect_provider(start_service) as (service, sandbox), browse(service, reader.key) as visitor:
        upload_id = await lose(service, sandbox)
        page = await visitor.client.get(f"/console/uploads/{upload_id}")
        assert (page.status_code, "you need the permission “upload”" in page.text) == (200, True)
        assert (await answer(visitor, upload_id, answer="not_sent", sure="true")).status_code == 403
        assert (await visitor.client.get(f"/console/uploads/{upload_id}/rejected.csv")).status_code == 403
        assert (await read(service, upload_id))["state"] == "unknown"


async def test_an_answer_without_the_forms_token_is_refused(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox), browse(service) as visitor:
        upload_id = await lose(service, sandbox)
        visitor.token = "wrong"
        assert (await answer(visitor, upload_id, answer="not_sent", sure="true")).status_code == 403
        assert (await read(service, upload_id))["state"] == "unknown"

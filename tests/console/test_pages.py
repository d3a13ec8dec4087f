"""The pages that show figures and people: who may see what, what is masked, and that nothing from outside gets out of
its place."""

import csv
import html
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.access.keys import Keys
from service.console.pages.compare import name_weeks, read_side
from service.sandbox import sample_contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import Visitor, sign_in
from tests.factories import AGENT_ID, make_payload, phone_of, post_webhook, store_batch
from tests.provider import connect_provider, count_uploads, upload

BATCH = "/console/batches/456"
READ = (
    "/console", "/console/today/running", BATCH, f"{BATCH}/live", f"{BATCH}/people", f"{BATCH}/people/1",
    "/console/people", "/console/callbacks", "/console/callbacks/settings", "/console/compare",
)  # fmt: skip
PEOPLE = (f"{BATCH}/people.csv", f"{BATCH}/people.xlsx", "/console/callbacks.xlsx", "/console/events/x/body")
POSTS = {
    f"{BATCH}/people": "people",
    f"{BATCH}/people/1": "people",
    "/console/people": "people",
    "/console/callbacks": "people",
    "/console/callbacks/456/1": "people",
    "/console/callbacks/settings": "upload",
    f"{BATCH}/promote": "upload",
    f"{BATCH}/reconcile": "upload",
}
EVIL = '"><script>alert(1)</script>{{ 7 * 7 }}\u202e'


@asynccontextmanager
async def open_console(
    start_service: StartService, database: Database, *scopes: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Visitor]]:
    made = await Keys(database).create("somebody", scopes, None)
    async with start_service() as service:
        yield service, await sign_in(service, made.key)


async def test_a_stranger_is_led_to_the_sign_in_and_back(service: httpx.AsyncClient) -> None:
    stranger = Visitor(service.base_url)
    answer = await stranger.get(f"{BATCH}/people?state=busy")
    assert (answer.status_code, answer.headers["location"]) == (
        303, "/console/sign-in?next=%2Fconsole%2Fbatches%2F456%2Fpeople%3Fstate%3Dbusy",
    )  # fmt: skip
    answer = await stranger.get(f"{BATCH}/live", is_fragment=True)
    assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")


async def test_each_page_needs_its_permission_and_says_which(start_service: StartService, database: Database) -> None:
    await store_batch(database.url)
    async with open_console(start_service, database, "feed") as (_, visitor):
        for path in (*READ, *PEOPLE):
            answer = await visitor.get(path)
            if path == "/console":  # leads to the first page that may be opened
                assert (answer.status_code, answer.headers["location"]) == (303, "/console/connections")
            elif path == "/console/people":
                assert (answer.status_code, "needs the permission “people”" in answer.text) == (200, True)
            else:
                assert (answer.status_code, "permission" in answer.text) == (403, True), path
        assert 'href="/console/connections"' in answer.text
        assert 'href="/console/people"' not in answer.text


async def test_readers_see_masked_people_and_download_and_reveal_nobody(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    async with open_console(start_service, database, "read") as (service, visitor):
        row = (await service.get("/v1/batch-calls/456/recipients/1")).json()["data"]
        for path in READ:
            page = await visitor.read(path)
            assert row["phone"] not in page, path
            assert str(row["parameters"]["loan_id"]) not in page, path
        for path in (
            *PEOPLE, f"{BATCH}?by=loan_id", f"{BATCH}/people?parameter=loan_id:LN-1",
            f"{BATCH}/people?result=mail:a@b.example", f"{BATCH}/people?failure_reason=%2B919876543210",
        ):  # fmt: skip
            assert (await visitor.get(path)).status_code == 403, path
        for path in POSTS:
            answer = await visitor.post(path, done="true", by="phone", text=row["phone"], agent_id="123", results="x")
            assert answer.status_code == 403, path
        lines = (await service.get("/v1/audit")).json()["data"]
        assert {line["action"] for line in lines} == {"key_created", "signed_in"}


@pytest.mark.parametrize("path", POSTS)
async def test_no_action_is_taken_without_the_token_of_the_session(
    service: httpx.AsyncClient, database_url: str, path: str
) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    answer = await visitor.post_without_token(path, done="true", by="phone", text="+919876543210")
    assert answer.status_code == 403
    other = await sign_in(service)
    page = await other.get("/console/no-such-page")
    foreign = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert foreign is not None
    assert (await visitor.post_without_token(path, csrf_token=foreign[1])).status_code == 403


async def test_a_look_at_people_is_a_click_and_a_line_for_each(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    row = (await service.get("/v1/batch-calls/456/recipients/1")).json()["data"]
    assert row["phone"] not in await visitor.read(f"{BATCH}/people/1")
    for path in (f"{BATCH}/people", f"{BATCH}/people/1"):
        assert row["phone"] in (await visitor.follow(path)).text
    found = await visitor.follow("/console/people", by="phone", text=row["phone"])
    assert "456/people/1" in found.text
    actions = [line["action"] for line in (await service.get("/v1/audit")).json()["data"]]
    assert {"person_revealed", "timeline_read", "people_found"} <= set(actions)
    assert row["phone"] not in str((await service.get("/v1/audit")).json())


@pytest.mark.parametrize(
    "path",
    ["/console/batches/999", "/console/batches/x", "/console/batches/456/people/999", f"{BATCH}/people/x",
     "/console/nothing", "/console/events/unknown/body", "/console/static/../http.py", "/console/static/none.css"],
)  # fmt: skip
async def test_what_is_not_there_is_said_so_on_a_page(service: httpx.AsyncClient, database_url: str, path: str) -> None:
    await store_batch(database_url)
    answer = await (await sign_in(service)).get(path)
    assert answer.status_code == 404


async def test_results_and_reasons_that_name_people_are_masked_wherever_they_are_shown(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    said = {
        "alt": "call +919812345678",
        "mail": "rahul@example.com",
        "list": ["98123 45678"],
        "in": {"to": "९८१२३४५६७८"},
    }
    async with open_console(start_service, database, "read") as (service, visitor):
        assert (await post_webhook(service, make_payload(results=said))).status_code == 204
        failed = make_payload(recipient=2, status="failed")
        failed["data"]["call"]["failure_reason"] = "no route to +919812345678"
        assert (await post_webhook(service, failed)).status_code == 204
        for path in (
            *READ, f"{BATCH}/people/2", f"{BATCH}?by=results.alt", f"{BATCH}?by=results.mail",
            "/console/compare?left=batch:456&right=batch:456&by=results.mail",
        ):  # fmt: skip
            page = (await visitor.get(path)).text
            for secret in ("9812345678", "rahul@example.com", "98123 45678", "९८१२३४५६७८"):
                assert secret not in page, (path, secret)


@pytest.mark.parametrize("scopes", [("read",), ("read", "people")])
async def test_ids_from_outside_are_masked_for_those_who_may_not_see_people(
    start_service: StartService, database: Database, scopes: tuple[str, ...]
) -> None:
    await store_batch(database.url)
    call = make_payload(event_id="end-9812345678", conversation_id="call-9812345678")
    call["data"]["call"]["trace_id"] = "trace-9812345679"
    async with open_console(start_service, database, *scopes) as (service, visitor):
        assert (await post_webhook(service, call)).status_code == 204
        page = await visitor.read(f"{BATCH}/people/1")
    assert ["9812345678" in page, "9812345679" in page] == ["people" in scopes] * 2


async def test_the_rest_of_a_test_batch_needs_the_number_that_waits(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, sample_contacts(20, seed=5), test_recipients="5")).status_code == 200
        visitor = await sign_in(service)
        for people in ("", "14", "x"):
            assert (await visitor.post(f"{BATCH}/promote", people=people)).status_code == 409
        assert count_uploads(sandbox)[0] == 1
        assert (await visitor.post(f"{BATCH}/promote", people="15")).status_code == 303
        assert count_uploads(sandbox)[0] == 2


async def test_callbacks_are_downloaded_as_they_are_filtered(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    setting = {"results": ["callback_time"], "time_zone": "UTC"}
    assert (await service.put(f"/v1/agents/{AGENT_ID}/callbacks", json=setting)).status_code == 200
    for recipient, due in ((1, "2026-02-01T10:00:00Z"), (2, "2099-02-01T10:00:00Z")):
        results = {"callback_time": due, "intent": "later"}
        await post_webhook(service, make_payload(recipient=recipient, results=results))
    visitor = await sign_in(service)
    visitor.cookies.set("outcomes_zone", "Asia/Kolkata")
    page = html.unescape(await visitor.read("/console/callbacks?state=overdue"))
    links = re.findall(r'href="(/console/callbacks\.[^"]+)" download', page)
    assert [link.partition("?")[0].rpartition(".")[2] for link in links] == ["csv", "xlsx", "ndjson", "parquet"]
    header, *rows = csv.reader(io.StringIO((await visitor.read(links[0])).removeprefix("\ufeff")))
    (row,) = (dict(zip(header, cells, strict=True)) for cells in rows)
    assert (row["due_at"], row["time_zone"]) == ("2026-02-01T15:30:00+05:30", "Asia/Kolkata")
    assert (row["phone"], row["results.intent"]) == (phone_of(1), "later")


async def test_wrong_filters_are_refused_beside_the_form_that_keeps_them(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    for path, said in (
        (f"{BATCH}/people?result=nonsense", "NAME:VALUE"),
        (f"{BATCH}/people?dated_from=2026-03-16", "Choose the result"),
        (f"{BATCH}/people?phone=%2B919876543210", "is not a parameter"),
        ("/console/callbacks?due_from=yesterday", "due_from"),
        ("/console/compare?left=batch:456&right=nonsense:1", "right"),
        ("/console/compare?left=batch:456&right=batch:999", "999"),
    ):
        answer = await visitor.get(path)
        assert answer.status_code == 400, path
        assert said in html.unescape(answer.text), path
    assert 'value="nonsense"' in (await visitor.get(f"{BATCH}/people?result=nonsense")).text


async def test_nothing_from_outside_gets_out_of_its_place(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        cell = '"' + EVIL.replace('"', '""') + '"'
        contacts = f"customer_phone,{cell}\n+919876543210,{cell}\n"
        assert (await upload(service, contacts, name=EVIL, accept_columns="true")).status_code == 200
        payload: dict[str, Any] = make_payload(event_id="e", results={"intent": EVIL, EVIL: [EVIL * 500]}, agent_id=123)
        payload["data"]["call"] |= {"to_phone": "+919876543210", "failure_reason": EVIL, "call_parameters": {}}
        assert (await post_webhook(service, payload)).status_code == 204
        visitor = await sign_in(service)
        seen = ""
        for path in (*READ, f"{BATCH}?by=results.intent", f"{BATCH}/people/1", "/console/events/e/body"):
            page = (await visitor.get(path)).text
            assert "<script>alert" not in page, path
            assert all("49" not in title for title in re.findall(r"<title>(.*?)</title>", page))
            seen += page
        assert "&lt;script&gt;alert(1)" in seen


async def test_a_download_has_exactly_the_people_that_the_filters_find(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        assert (await upload(service, sample_contacts(20, seed=4))).status_code == 200
        await sandbox.sandbox.wait_until_done(456)
        visitor = await sign_in(service)
        page = await visitor.read(f"{BATCH}/people?state=completed")
        file = await visitor.get(f"{BATCH}/people.csv?state=completed")
        assert file.headers["content-disposition"].startswith("attachment")
        assert file.content.startswith(b"\xef\xbb\xbf")  # so that Excel reads UTF-8
        lines = file.text.splitlines()
        assert "results.intent" in lines[0]
        assert page.count('<small class="muted">No. ') == len(lines) - 1 > 5


async def test_numbers_and_times_are_written_for_people(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    visitor.cookies.set("outcomes_zone", "Asia/Kolkata", path="/console")
    page = await visitor.read(BATCH)
    assert 'data-zone="Asia/Kolkata"' in page
    assert "Times are in <strong>Asia/Kolkata</strong>" in page
    visitor.cookies.set("outcomes_zone", "../../etc/passwd", path="/console")
    assert 'data-zone="UTC"' in await visitor.read(BATCH)


async def test_an_earlier_time_is_of_the_viewers_zone_and_the_same_for_all_in_the_address(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    visitor.cookies.set("outcomes_zone", "Asia/Kolkata", path="/console")
    led = await visitor.get(f"{BATCH}?as_of=2027-03-16T15:30")
    assert (led.status_code, led.headers["location"]) == (303, f"{BATCH}?as_of=2027-03-16T10%3A00%3A00%2B00%3A00")
    assert 'type="datetime-local" value=""' in await visitor.read(BATCH)
    early = await visitor.read(f"{BATCH}?as_of=2020-03-16T10:00:00%2B00:00")
    assert "nothing was known of this batch" in early


@pytest.mark.parametrize("text", ["x", "-1", "9" * 5000, "½", "2026-02-30T10:00"])
async def test_a_time_that_is_none_is_refused(service: httpx.AsyncClient, database_url: str, text: str) -> None:
    await store_batch(database_url)
    answer = await (await sign_in(service)).get(f"{BATCH}?as_of={text}")
    assert (answer.status_code, "As of: takes a day and a time" in answer.text) == (400, True)


def test_a_side_is_read_from_the_form_and_from_a_link() -> None:
    assert read_side({"left": "agent:7:2026-03-09..2026-03-15"}, "left") == {
        "kind": "agent", "id": "7", "from": "2026-03-09", "to": "2026-03-15", "text": "agent:7:2026-03-09..2026-03-15",
    }  # fmt: skip
    form = {"right_kind": "period", "right_from": "2026-03-09", "right_to": "2026-03-15"}
    assert read_side(form, "right")["text"] == "period:2026-03-09..2026-03-15"
    assert read_side({"right_kind": "batch"}, "right")["text"] == ""
    assert read_side({"right_kind": "batch", "right_id": "456"}, "right")["text"] == "batch:456"


def test_seven_days_are_compared_with_the_seven_before() -> None:
    from datetime import UTC, datetime

    assert name_weeks(datetime(2026, 3, 18, 12, tzinfo=UTC), UTC) == {
        "left": "2026-03-05..2026-03-11", "right": "2026-03-12..2026-03-18",
    }  # fmt: skip


async def test_a_list_that_is_cut_says_how_much_it_leaves_out(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 40)
    for recipient in range(1, 31):
        payload = make_payload(recipient=recipient, status="failed", results=None)
        payload["data"]["call"]["failure_reason"] = f"reason {recipient % 15}"
        payload["data"]["call"]["from_phone"] = f"+9180471001{recipient % 15:02}" if recipient <= 20 else None
        assert (await post_webhook(service, payload)).status_code == 204
    visitor = await sign_in(service)
    page = (await visitor.get(BATCH)).text
    rows = {cells[0]: cells[1:] for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL) if (cells := read_cells(row))}
    assert rows["others"][0] == "14"  # 30 calls, of which the eight reasons that are shown have two each
    assert rows["Other numbers"][:2] == ["5", "0"]  # five numbers of two calls and five of one are shown
    assert rows["Number not known"][:2] == ["10", "–"]


def read_cells(row: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]

"""The sign-in page says why a session ended, and signing in leads back to the page."""

import html
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.requests import Request

from service.access import auth
from service.access.keys import Keys
from service.console.http import find_page
from service.store.database import Database
from tests.conftest import API_KEY, StartService
from tests.console.visiting import Visitor, sign_in
from tests.eventually import eventually

PAGE = "/console/callbacks?state=overdue"
GO_ON = "Sign in to go on where you were."


async def read_sign_in(visitor: Visitor, path: str = PAGE) -> str:
    """The sign-in page that a page leads to; "" where it leads nowhere."""
    answer = await visitor.get(path)
    if answer.status_code == 200:
        return ""
    assert answer.status_code == 303, answer.text
    assert parse_qs(urlsplit(answer.headers["location"]).query)["next"] == [path]
    return html.unescape(await visitor.read(answer.headers["location"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE console_sessions SET last_seen_at = now() - interval '10 hours'", "was not used for a while"),
        ("UPDATE console_sessions SET expires_at = now()", "a session lasts a limited time"),
        ("DELETE FROM console_sessions", "a session lasts a limited time"),
        ("UPDATE console_sessions SET closed_at = now()", "an admin closed your session"),
    ],
    ids=["idle", "expired", "deleted after it", "closed"],
)
async def test_why_a_session_has_ended_is_said_at_the_sign_in(
    service: httpx.AsyncClient, database: Database, change: str, said: str
) -> None:
    visitor = await sign_in(service)
    await database.pool.execute(change)
    page = await read_sign_in(visitor)
    assert said in page
    assert GO_ON in page
    answer = await visitor.request("POST", "/console/sign-in", data={"key": API_KEY, "next": PAGE})
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    assert (await visitor.get(PAGE)).status_code == 200


async def test_a_session_whose_key_is_revoked_says_so(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REFRESH_SECONDS", 0.01)
    made = await Keys(database).create("dashboard", ("read",), None)
    async with start_service() as service:
        visitor = await sign_in(service, made.key)
        assert await read_sign_in(visitor) == ""
        await Keys(database).revoke("dashboard")
        page = await eventually(lambda: read_sign_in(visitor))
    assert "the API key of your session was revoked or has expired" in page


async def test_strangers_and_those_who_signed_out_see_no_reason(service: httpx.AsyncClient) -> None:
    assert GO_ON not in await read_sign_in(Visitor(service.base_url))
    visitor = await sign_in(service)
    assert (await visitor.post("/console/sign-out")).status_code == 303
    assert GO_ON not in await read_sign_in(visitor)


async def test_a_form_that_is_sent_too_late_leads_back_to_its_page(
    service: httpx.AsyncClient, database: Database
) -> None:
    visitor = await sign_in(service)
    await database.pool.execute("UPDATE console_sessions SET expires_at = now()")
    referrer = {"referer": f"{service.base_url}{PAGE}"}
    answer = await visitor.request("POST", "/console/callbacks/456/1", data={"done": "true"}, headers=referrer)
    assert (answer.status_code, parse_qs(urlsplit(answer.headers["location"]).query)) == (303, {"next": [PAGE]})


async def test_a_form_sent_too_late_is_reported_as_not_done_until_a_page_has_said_so(
    service: httpx.AsyncClient, database: Database
) -> None:
    said = "What you sent was not done, because you were signed out: send it again."
    visitor = await sign_in(service)
    await database.pool.execute("UPDATE console_sessions SET expires_at = now()")
    assert said not in await read_sign_in(visitor)
    referrer = {"referer": f"{service.base_url}{PAGE}"}
    answer = await visitor.request("POST", "/console/callbacks/456/1", data={"done": "true"}, headers=referrer)
    for _ in range(2):
        assert said in await visitor.read(answer.headers["location"])
    answer = await visitor.request("POST", "/console/sign-in", data={"key": API_KEY, "next": PAGE})
    assert said not in (await visitor.get(answer.headers["location"], is_fragment=True)).text
    assert said in await visitor.read(answer.headers["location"])
    assert said not in await visitor.read(PAGE)


async def test_what_htmx_sends_too_late_is_reported_after_the_page_is_loaded_again(service: httpx.AsyncClient) -> None:
    visitor = Visitor(service.base_url)
    answer = await visitor.request("POST", "/console/upload/check", headers={"hx-request": "true"})
    assert answer.status_code == 401
    assert "What you sent was not done" in await read_sign_in(visitor)


@pytest.mark.parametrize(
    ("referrer", "page"),
    [
        ("https://outcomes.example.com/console/batches/456?as_of=x", "/console/batches/456?as_of=x"),
        ("https://evil.example.com//evil.example.com/console", "/console"),
        ("https://evil.example.com/steal", "/console"),
        ("https://outcomes.example.com/console/../v1/keys", "/console"),
        ("javascript:alert(1)", "/console"), ("/console/sign-out", "/console"), ("", "/console"),
        ("https://[::1/console", "/console"),
    ],
)  # fmt: skip
def test_a_form_leads_back_only_to_pages_of_the_console(referrer: str, page: str) -> None:
    headers = [(b"referer", referrer.encode())]
    scope = {"type": "http", "method": "POST", "path": "/console/upload", "query_string": b"", "headers": headers}
    assert find_page(Request(scope)) == page

"""Signing in with a key and out again: cookies, forms from elsewhere, links to elsewhere, and guessing."""

from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import pytest

from service.access import auth
from service.access.keys import Keys
from service.access.sessions import make_csrf_token
from service.console import throttle
from service.console.protection import MAX_FORM_BYTES
from service.console.sign_in import REMEMBERED_SECONDS, read_next
from service.console.throttle import EACH, TOGETHER, Rate, Throttle
from service.store.database import Database
from tests.conftest import API_KEY, StartService
from tests.console.openid import PUBLIC_URL

PLAIN = "outcomes_session"
SECURE = "__Host-outcomes_session"
TLS = {"x-forwarded-proto": "https"}


async def post_key(client: httpx.AsyncClient, key: str = API_KEY, **options: Any) -> httpx.Response:
    headers = {"authorization": ""} | options.pop("headers", {})
    return await client.post("/console/sign-in", data={"key": key, **options}, headers=headers)


def read_cookie(answer: httpx.Response) -> Morsel[str]:
    """The one cookie that an answer sets."""
    lines = answer.headers.get_list("set-cookie")
    assert len(lines) == 1
    (cookie,) = SimpleCookie(lines[0]).values()
    return cookie


async def sign_in(client: httpx.AsyncClient, key: str = API_KEY) -> str:
    """The token of a new session."""
    answer = await post_key(client, key)
    assert answer.status_code == 303, answer.text
    client.cookies.clear()
    return read_cookie(answer).value


async def is_signed_in(client: httpx.AsyncClient, token: str, name: str = PLAIN, **headers: str) -> bool:
    """The page of signing in sends those on who are signed in."""
    answer = await client.get("/console/sign-in", headers={"cookie": f"{name}={token}"} | headers)
    assert answer.status_code in {200, 303}
    return answer.status_code == 303


async def sign_out(client: httpx.AsyncClient, token: str, csrf: str | None, **headers: str) -> httpx.Response:
    data = {} if csrf is None else {"csrf_token": csrf}
    return await client.post("/console/sign-out", data=data, headers={"cookie": f"{PLAIN}={token}"} | headers)


async def test_a_key_opens_a_session_and_leads_to_the_page_that_was_wanted(service: httpx.AsyncClient) -> None:
    page = await service.get("/console/sign-in", params={"next": "/console/batches?state=busy"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'name="next" value="/console/batches?state=busy"' in page.text
    assert "company account" not in page.text
    answer = await post_key(service, f" {API_KEY}\n", next="/console/batches?state=busy")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/batches?state=busy")
    assert await is_signed_in(service, read_cookie(answer).value)


async def test_the_pages_are_not_stored_and_load_nothing_from_elsewhere(service: httpx.AsyncClient) -> None:
    headers = (await service.get("/console/sign-in")).headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "form-action 'self'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("key", ["", " ", "another", API_KEY[:-1], "x" * 501, "é\u2028", "'; --"])
async def test_a_wrong_key_gets_the_page_again_with_an_error(service: httpx.AsyncClient, key: str) -> None:
    answer = await post_key(service, key)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers
    assert not key.strip() or key not in answer.text


async def test_an_unknown_key_a_revoked_one_and_an_expired_one_get_the_same_answer(
    start_service: StartService, database: Database
) -> None:
    keys = Keys(database)
    made = [(await keys.create(name, ("read",), None)).key for name in ("revoked", "expired")]
    await keys.revoke("revoked")
    await database.pool.execute("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    async with start_service() as service:
        answers = [await post_key(service, key) for key in (*made, "outcomes_unknown")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


async def test_without_tls_the_cookie_is_closed_to_scripts_and_to_forms_of_other_sites(
    service: httpx.AsyncClient,
) -> None:
    cookie = read_cookie(await post_key(service))
    assert (cookie.key, cookie["httponly"], cookie["samesite"], cookie["path"]) == (PLAIN, True, "lax", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert 86_390 <= int(cookie["max-age"]) - REMEMBERED_SECONDS <= 86_400


@pytest.mark.parametrize(("public_url", "headers"), [("", TLS), (PUBLIC_URL, {}), (PUBLIC_URL, TLS)])
async def test_behind_tls_the_cookie_is_secure_and_of_this_host_alone(
    start_service: StartService, public_url: str, headers: dict[str, str]
) -> None:
    async with start_service(OUTCOMES_PUBLIC_URL=public_url) as service:
        cookie = read_cookie(await post_key(service, headers=headers))
        assert (cookie.key, cookie["secure"], cookie["path"], cookie["domain"]) == (SECURE, True, "/", "")
        assert (cookie["httponly"], cookie["samesite"]) == (True, "lax")
        assert await is_signed_in(service, cookie.value, SECURE, **headers)
        # Another host of the domain can plant a cookie without the prefix.
        assert not await is_signed_in(service, cookie.value, PLAIN, **headers)


async def test_a_planted_token_is_never_the_session_and_the_one_before_is_closed(service: httpx.AsyncClient) -> None:
    planted = await sign_in(service)
    answer = await post_key(service, headers={"cookie": f"{PLAIN}={planted}"})
    token = read_cookie(answer).value
    assert token != planted
    assert await is_signed_in(service, token)
    assert not await is_signed_in(service, planted)
    made_up = "a" * 43
    assert read_cookie(await post_key(service, headers={"cookie": f"{PLAIN}={made_up}"})).value != made_up
    assert not await is_signed_in(service, made_up)


async def test_signing_out_closes_the_session_and_removes_the_cookie(service: httpx.AsyncClient) -> None:
    token, other = await sign_in(service), await sign_in(service)
    answer = await sign_out(service, token, make_csrf_token(token))
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    cookie = read_cookie(answer)
    assert (cookie.key, cookie.value, cookie["max-age"]) == (PLAIN, "", "0")
    assert not await is_signed_in(service, token)
    assert await is_signed_in(service, other)
    assert (await sign_out(service, token, None)).status_code == 303


async def test_a_form_without_the_sessions_own_token_changes_nothing(service: httpx.AsyncClient) -> None:
    token, other = await sign_in(service), await sign_in(service)
    own = make_csrf_token(token)
    for wrong in (None, "", own[:-1], f"{own}A", make_csrf_token(other), token, "é"):
        assert (await sign_out(service, token, wrong)).status_code == 403, wrong
    host = service.base_url.netloc.decode()
    foreign = (
        {"origin": "https://evil.example.com"},
        {"origin": f"http://{host}.evil.example.com"},
        {"origin": "file://"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    )
    for headers in foreign:
        assert (await sign_out(service, token, own, **headers)).status_code == 403, headers
    assert await is_signed_in(service, token)
    assert (await sign_out(service, token, own, origin=f"http://{host}")).status_code == 303


async def test_the_token_may_come_in_a_header(service: httpx.AsyncClient) -> None:
    token = await sign_in(service)
    wrong = {"x-csrf-token": make_csrf_token("another")}
    assert (await sign_out(service, token, make_csrf_token(token), **wrong)).status_code == 403
    assert (await sign_out(service, token, None, **{"x-csrf-token": make_csrf_token(token)})).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
    ],
    ids=str,
)
async def test_a_form_of_another_site_signs_nobody_in(service: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await post_key(service, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_the_own_form_signs_in_however_the_browser_says_so(start_service: StartService) -> None:
    async with start_service(OUTCOMES_PUBLIC_URL=PUBLIC_URL) as service:
        host = service.base_url.netloc.decode()
        own: tuple[dict[str, str], ...] = (
            {"origin": f"http://{host}"},
            {"origin": PUBLIC_URL},
            {"sec-fetch-site": "same-origin", "origin": "null"},
            {"sec-fetch-site": "same-origin", "origin": PUBLIC_URL},
        )
        for headers in own:
            assert (await post_key(service, headers=headers)).status_code == 303, headers


ELSEWHERE = [
    None, "", "https://evil.example.com", "//evil.example.com", "/\\evil.example.com", "\\\\evil.example.com",
    "/console\\@evil", "/consolex", "/console.evil", "console", "/", "/docs", "/v1/audit", "javascript:alert(1)",
    "/console/../docs", "/console/..", "/console/%2e%2e/docs", "/console/%2E./docs", "/console/.", "/console/a b",
    "/console/\r\nset-cookie: a=b", "/console/%5c..", "/console/\t", "/console/é", "/console?" + "x" * 1500,
    "/console/sign-in", "/console/sign-in/oidc", "/console/sign-out", "/console/sign%2din",
]  # fmt: skip
HERE = ["/console", "/console/", "/console/batches/7?state=busy&next=//x#top", "/console?next=https://x", "/console//x"]


def test_only_pages_of_the_console_are_gone_to() -> None:
    assert {text: read_next(text) for text in ELSEWHERE} == dict.fromkeys(ELSEWHERE, "/console")
    assert [read_next(text) for text in HERE] == HERE


@pytest.mark.parametrize("text", ["//evil.example.com", "https://evil.example.com", "/\\evil.example.com"])
async def test_signing_in_never_leads_to_another_site(service: httpx.AsyncClient, text: str) -> None:
    answer = await post_key(service, next=text)
    assert answer.headers["location"] == "/console"
    signed_in = await service.get("/console/sign-in", params={"next": text})
    assert signed_in.headers["location"] == "/console"


async def test_where_to_go_is_escaped_in_the_page(service: httpx.AsyncClient) -> None:
    page = await service.get("/console/sign-in", params={"next": '/console?"><script>alert(1)</script>'})
    assert "<script>alert" not in page.text


async def test_a_revoked_key_ends_its_sessions_within_seconds(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REFRESH_SECONDS", 0.01)
    made = await Keys(database).create("dashboard", ("read",), None)
    async with start_service() as service, start_service() as replica:
        token = await sign_in(service, made.key)
        assert await is_signed_in(service, token)
        assert await is_signed_in(replica, token)
        await Keys(database).revoke("dashboard")
        for client in (service, replica):
            while await is_signed_in(client, token):
                pass  # the test's time limit ends this when it never comes


async def test_an_expired_session_is_signed_out(service: httpx.AsyncClient, database: Database) -> None:
    token = await sign_in(service)
    await database.pool.execute("UPDATE console_sessions SET expires_at = now()")
    assert not await is_signed_in(service, token)


async def test_guessing_is_slowed_for_the_address_even_with_the_right_key(service: httpx.AsyncClient) -> None:
    for number in range(EACH.burst):
        assert (await post_key(service, f"guess-{number}")).status_code == 401
    for key in ("guess", API_KEY):
        answer = await post_key(service, key)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= EACH.seconds
        assert "set-cookie" not in answer.headers
    # The proxy in front says whose request it is.
    assert (await post_key(service, headers={"x-forwarded-for": "10.0.0.1, 203.0.113.7"})).status_code == 303
    for number in range(EACH.burst):
        network = {"x-forwarded-for": f"2001:db8:1:2::{number}"}
        assert (await post_key(service, "guess", headers=network)).status_code == 401
    other = {"x-forwarded-for": "2001:db8:1:2:ffff::1"}
    assert (await post_key(service, headers=other)).status_code == 429


async def test_signing_in_rightly_is_not_slowed(service: httpx.AsyncClient) -> None:
    for _ in range(EACH.burst + 2):
        await sign_in(service)


def test_an_address_may_try_again_after_its_time() -> None:
    seconds = [0.0]
    throttle = Throttle(Rate(3, 10.0), Rate(100, 1.0), clock=lambda: seconds[0])
    for _ in range(3):
        assert throttle.find_wait("a") == 0
        throttle.note_failure("a")
    assert (throttle.find_wait("a"), throttle.find_wait("b")) == (10, 0)
    seconds[0] = 9.5
    assert throttle.find_wait("a") == 1
    seconds[0] = 10.0
    assert throttle.find_wait("a") == 0
    throttle.note_failure("a")
    assert throttle.find_wait("a") == 10
    seconds[0] = 1000.0
    for _ in range(3):
        assert throttle.find_wait("a") == 0
        throttle.note_failure("a")
    assert throttle.find_wait("a") == 10


def test_many_addresses_together_are_slowed_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_ADDRESSES", 10)
    slowed = Throttle(clock=lambda: 0.0)
    for number in range(TOGETHER.burst):
        assert slowed.find_wait(str(number)) == 0
        slowed.note_failure(str(number))
    assert slowed.find_wait("another") == 1
    assert len(slowed._free_at) == 10


async def test_a_body_that_is_not_a_small_form_is_refused_unread(service: httpx.AsyncClient) -> None:
    answer = await post_key(service, "x" * (MAX_FORM_BYTES + 1))
    assert answer.status_code == 413
    for options in ({"json": {"key": API_KEY}}, {"files": {"key": API_KEY}}, {"content": b""}):
        answer = await service.post("/console/sign-in", **options)
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)

    async def endless() -> Any:
        yield b"key="
        yield b"x" * 1000

    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert (await service.post("/console/sign-in", content=endless(), headers=kind)).status_code == 400


async def test_another_site_signs_nobody_out(service: httpx.AsyncClient) -> None:
    token = await sign_in(service)
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = await service.post("/console/sign-out", headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert await is_signed_in(service, token)

"""Signing in by OpenID Connect, against a real provider."""

import json
import signal
from collections.abc import AsyncIterator, Iterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from service.access.sessions import make_csrf_token
from service.errors import ConfigurationError
from service.store.database import Database
from tests.conftest import StartService
from tests.console.openid import (
    CALLBACK,
    CLIENT_ID,
    CLIENT_SECRET,
    FOLDER,
    PUBLIC_URL,
    run_provider,
    sign_in_at_provider,
)
from tests.processes import serve

SESSION = "__Host-outcomes_session"
TRANSACTION = "__Host-outcomes_sign_in"
GROUP_SCOPES = "analysts=read;ops=read,upload,feed"


def configure(issuer: str) -> dict[str, Any]:
    return {
        "OUTCOMES_PUBLIC_URL": PUBLIC_URL,
        "OUTCOMES_OIDC_ISSUER": issuer,
        "OUTCOMES_OIDC_CLIENT_ID": CLIENT_ID,
        "OUTCOMES_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OUTCOMES_OIDC_SCOPES": "openid profile groups",
        "OUTCOMES_OIDC_GROUP_SCOPES": GROUP_SCOPES,
    }


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """A provider that gives groups at its userinfo endpoint."""
    with run_provider() as address:
        yield address


@pytest.fixture
async def console(start_service: StartService, issuer: str) -> AsyncIterator[httpx.AsyncClient]:
    async with start_service(**configure(issuer)) as client:
        yield client


def cookies_of(answer: httpx.Response) -> SimpleCookie:
    cookies = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        cookies.load(line)
    return cookies


async def begin(console: httpx.AsyncClient, next_path: str = "/console") -> tuple[httpx.URL, str]:
    """The address of the provider to go to, and the browser's cookie."""
    answer = await console.get("/console/sign-in/oidc", params={"next": next_path})
    assert answer.status_code == 303, answer.text
    cookie = cookies_of(answer)[TRANSACTION]
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["max-age"]) == (True, True, "lax", "600")
    return httpx.URL(answer.headers["location"]), cookie.value


async def come_back(console: httpx.AsyncClient, transaction: str, parameters: dict[str, Any]) -> httpx.Response:
    headers = {"cookie": f"{TRANSACTION}={transaction}"} if transaction else {}
    return await console.get(httpx.URL(CALLBACK).path, params=parameters, headers=headers)


async def sign_in(console: httpx.AsyncClient, person: str, next_path: str = "/console") -> httpx.Response:
    address, transaction = await begin(console, next_path)
    return await come_back(console, transaction, await sign_in_at_provider(str(address), person))


async def count_sessions(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM console_sessions")
    return count


async def test_a_person_signs_in_with_the_scopes_of_all_their_groups(
    console: httpx.AsyncClient, database: Database
) -> None:
    answer = await sign_in(console, "vikram", "/console/batches/7?state=busy")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/batches/7?state=busy")
    cookies = cookies_of(answer)
    assert (cookies[TRANSACTION].value, cookies[TRANSACTION]["max-age"]) == ("", "0")
    (row,) = await database.pool.fetch(
        "SELECT scopes, name, subject FROM console_sessions JOIN console_users USING (user_id)"
    )
    assert tuple(row) == (["read", "upload", "feed"], "Vikram", "vikram")
    again = await console.get("/console/sign-in", headers={"cookie": f"{SESSION}={cookies[SESSION].value}"})
    assert (again.status_code, again.headers["location"]) == (303, "/console")


async def test_groups_may_come_in_the_token(start_service: StartService, database: Database) -> None:
    with run_provider(groups_in_token=True) as issuer:
        async with start_service(**configure(issuer)) as console:
            assert (await sign_in(console, "asha")).status_code == 303
    assert await database.pool.fetchval("SELECT scopes FROM console_sessions") == ["read"]


async def test_the_request_asks_for_a_code_with_pkce_state_and_nonce(console: httpx.AsyncClient) -> None:
    first, second = [(await begin(console))[0].params for _ in range(2)]
    assert first["response_type"] == "code"
    assert first["redirect_uri"] == CALLBACK
    assert (first["scope"], first["code_challenge_method"]) == ("openid profile groups", "S256")
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]


async def test_the_page_offers_the_provider_and_keeps_where_to_go(console: httpx.AsyncClient) -> None:
    page = await console.get("/console/sign-in", params={"next": "/console/batches?q=a&b=c"})
    assert 'href="/console/sign-in/oidc?next=%2Fconsole%2Fbatches%3Fq%3Da%26b%3Dc"' in page.text


@pytest.mark.parametrize("person", ["guest", "nobody"])
async def test_somebody_in_no_mapped_group_is_refused_with_the_claim_that_was_read(
    console: httpx.AsyncClient, database: Database, person: str
) -> None:
    answer = await sign_in(console, person)
    assert answer.status_code == 403
    assert "&#39;groups&#39; was read" in answer.text
    assert ("visitors, &lt;b&gt;" if person == "guest" else "held: nothing") in answer.text
    assert SESSION not in cookies_of(answer)
    assert await count_sessions(database) == 0


async def test_an_answer_with_another_state_is_refused(console: httpx.AsyncClient, database: Database) -> None:
    address, transaction = await begin(console)
    parameters = await sign_in_at_provider(str(address), "asha")
    for state in ("", parameters["state"][:-1], (await begin(console))[0].params["state"]):
        answer = await come_back(console, transaction, parameters | {"state": state})
        assert (answer.status_code, SESSION in cookies_of(answer)) == (401, False)
    assert await count_sessions(database) == 0
    assert (await come_back(console, transaction, parameters)).status_code == 303


async def test_an_answer_in_another_browser_is_refused(console: httpx.AsyncClient) -> None:
    address, transaction = await begin(console)
    parameters = await sign_in_at_provider(str(address), "asha")
    for held in ("", "x", "a.b.c.d", (await begin(console))[1], transaction[:-1], f"{transaction}A"):
        assert (await come_back(console, held, parameters)).status_code == 401


async def test_a_code_of_another_sign_in_is_refused_because_of_pkce(console: httpx.AsyncClient) -> None:
    stolen = await sign_in_at_provider(str((await begin(console))[0]), "vikram")
    address, transaction = await begin(console)
    answer = await come_back(console, transaction, stolen | {"state": address.params["state"]})
    assert (answer.status_code, SESSION in cookies_of(answer)) == (401, False)


async def test_a_sign_in_counts_once(console: httpx.AsyncClient, database: Database) -> None:
    address, transaction = await begin(console)
    parameters = await sign_in_at_provider(str(address), "asha")
    assert (await come_back(console, transaction, parameters)).status_code == 303
    assert (await come_back(console, transaction, parameters)).status_code == 401
    # A fresh code of the same transaction, which the provider accepts, opens no other session either.
    fresh = await sign_in_at_provider(str(address), "asha")
    answer = await come_back(console, transaction, fresh)
    assert (answer.status_code, "used before" in answer.text) == (401, True)
    assert await count_sessions(database) == 1


async def test_a_token_with_another_nonce_is_refused(console: httpx.AsyncClient, database: Database) -> None:
    address, transaction = await begin(console)
    parameters = await sign_in_at_provider(str(address.copy_set_param("nonce", "another-nonce")), "asha")
    assert (await come_back(console, transaction, parameters)).status_code == 401
    assert await count_sessions(database) == 0


async def test_an_answer_of_another_provider_is_refused(console: httpx.AsyncClient) -> None:
    address, transaction = await begin(console)
    parameters = await sign_in_at_provider(str(address), "asha")
    answer = await come_back(console, transaction, parameters | {"iss": "https://other.example.com"})
    assert answer.status_code == 401


async def test_what_the_provider_says_about_an_error_is_not_shown(console: httpx.AsyncClient) -> None:
    address, transaction = await begin(console)
    error = {"error": "access_denied", "error_description": "because-of-this", "state": address.params["state"]}
    answer = await come_back(console, transaction, error)
    assert (answer.status_code, "because-of-this" in answer.text) == (401, False)


async def test_the_log_names_a_person_by_id_and_holds_no_secret(
    issuer: str, database_url: str, database: Database
) -> None:
    async with serve(OUTCOMES_DATABASE_URL=database_url, OUTCOMES_LOG_LEVEL="debug", **configure(issuer)) as serving:
        console = serving.client
        address, transaction = await begin(console, "/console/people?name=Vikram")
        parameters = await sign_in_at_provider(str(address), "vikram")
        answer = await come_back(console, transaction, parameters)
        session = cookies_of(answer)[SESSION].value
        assert (await come_back(console, transaction, parameters)).status_code == 401
        assert (await sign_in(console, "guest")).status_code == 403
        wrong = {"key": "wrong-key-of-vikram", "next": "/console/people?name=Vikram"}
        assert (await console.post("/console/sign-in", data=wrong)).status_code == 401
        out = {"cookie": f"{SESSION}={session}", "x-csrf-token": make_csrf_token(session)}
        assert (await console.post("/console/sign-out", headers=out)).status_code == 303
        assert await serving.end(signal.SIGTERM) == 0
    secrets = (*parameters.values(), transaction, session, make_csrf_token(session), CLIENT_SECRET)
    log = "\n".join(map(str, serving.log))
    for hidden in ("ikram", "isitors", *(secret for secret in secrets if secret != issuer)):
        assert hidden not in log, hidden
    lines = {(line["route"], line.get("actor")) for line in serving.log if line["event"] == "request"}
    user_id = await database.pool.fetchval("SELECT user_id FROM console_users")
    assert ("/console/sign-in/callback", f"user: {user_id}") in lines
    assert ("/console/sign-out", f"user: {user_id}") in lines
    assert {line["event"] for line in serving.log} >= {"oidc_request_refused"}


async def test_while_the_provider_is_away_the_page_says_so_and_keys_still_sign_in(start_service: StartService) -> None:
    with run_provider() as issuer:
        pass
    async with start_service(**configure(issuer)) as console:
        answer = await console.get("/console/sign-in/oidc")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert "does not answer" in answer.text
        assert 'name="key"' in answer.text


@pytest.mark.parametrize("name", sorted(configure("https://sso.example.com").keys() - {"OUTCOMES_OIDC_SCOPES"}))
async def test_half_a_configuration_stops_the_service(start_service: StartService, name: str) -> None:
    settings = configure("https://sso.example.com")
    del settings[name]
    with pytest.raises(ConfigurationError, match=f"lacks {name}: set what is missing"):
        async with start_service(**settings):
            pass


async def test_a_group_with_an_unknown_scope_stops_the_service(start_service: StartService) -> None:
    settings = configure("https://sso.example.com") | {"OUTCOMES_OIDC_GROUP_SCOPES": "ops=read,everything"}
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_OIDC_GROUP_SCOPES .*'everything': the scopes are read"):
        async with start_service(**settings):
            pass


def test_the_lock_of_the_provider_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert len(packages) > 50
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []

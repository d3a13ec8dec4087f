"""Who gets in: every route but the receiver, the probes and the docs asks for a key, also those that come later."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.requests import Request
from starlette.routing import Route

from service.access import auth
from service.access.auth import Authenticator
from service.access.keys import Keys
from service.app import open_app
from service.errors import UnavailableError
from service.front import Front
from service.server.process import serve_in_background
from service.settings import read_settings
from service.store.database import Database
from service.web.scopes import SCOPES, allows
from tests.conftest import API_KEY, SECRET, StartService
from tests.factories import make_payload, post_webhook

OPEN = {
    "/": 307,
    "/healthz": 200,
    "/readyz": 200,
    "/metrics": 200,
    "/openapi.json": 200,
    "/docs": 200,
    "/docs/file": 404,
}
WRONG_KEYS = {
    "no key": {},
    "an empty one": {"authorization": "Bearer"},
    "another key": {"authorization": "Bearer another-key"},
    "the right one, cut short": {"authorization": f"Bearer {API_KEY[:-1]}"},
    "the right one by another scheme": {"authorization": f"Basic {API_KEY}"},
    "the right one without a scheme": {"authorization": API_KEY},
    "the right one in another header": {"x-api-key": API_KEY},
    "the webhooks' secret": {"authorization": f"Bearer {SECRET}"},
}


@asynccontextmanager
async def serve(database_url: str, api_key: str) -> AsyncIterator[tuple[httpx.AsyncClient, list[tuple[str, str]]]]:
    """The service over HTTP, and every method and path that it serves, read from its own table of routes."""
    settings = read_settings({"FORMANT_WEBHOOK_SECRET": SECRET, "OUTCOMES_API_KEY": api_key})
    async with open_app(settings, database_url) as service, serve_in_background(service, "127.0.0.1", 0) as port:
        assert isinstance(service.app, Front)
        routes = [
            (method, route.path.replace("{", "").replace("}", ""))
            for route in service.app.routes.routes
            if isinstance(route, Route) and not route.path.startswith("/console")  # people sign in there
            for method in sorted(route.methods or ())
        ]
        assert all(isinstance(route, Route) for route in service.app.routes.routes)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as client:
            yield client, routes


async def test_every_route_but_the_receiver_and_the_probes_refuses_a_wrong_key(
    database_url: str, subtests: pytest.Subtests
) -> None:
    async with serve(database_url, API_KEY) as (client, routes):
        assert {path for _, path in routes} > OPEN.keys()
        for method, path in routes:
            for name, headers in WRONG_KEYS.items():
                with subtests.test(f"{method} {path} with {name}"):
                    answer = await client.request(method, path, headers=headers)
                    if path in OPEN:
                        assert answer.status_code == OPEN[path]
                        continue
                    assert answer.status_code == 401
                    assert answer.headers["www-authenticate"] == "Bearer"
                    if method != "HEAD":
                        assert answer.json()["error"]["type"] == "authentication_error"
                        assert "Authorization" in answer.json()["error"]["message"]


async def test_every_route_lets_the_right_key_in(database_url: str) -> None:
    async with serve(database_url, API_KEY) as (client, routes):
        for method, path in routes:
            for scheme in ("Bearer", "bearer"):
                answer = await client.request(method, path, headers={"authorization": f"{scheme} {API_KEY}"})
                assert answer.status_code not in {401, 403, 405, 500}, (method, path)


async def test_without_a_key_configured_everything_is_closed_but_the_receiver_and_the_probes(database_url: str) -> None:
    async with serve(database_url, "") as (client, routes):
        for method, path in routes:
            for headers in ({}, {"authorization": "Bearer"}, {"authorization": f"Bearer {API_KEY}"}):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == OPEN.get(path, 401), (method, path)
                if path not in OPEN and method != "HEAD":
                    assert "OUTCOMES_API_KEY" in answer.json()["error"]["message"]
        assert (await post_webhook(client, make_payload())).status_code == 204


async def test_a_key_does_not_stand_in_for_a_signature(database_url: str) -> None:
    async with serve(database_url, API_KEY) as (client, _):
        answer = await client.post(
            "/webhooks/formant", json=make_payload(), headers={"authorization": f"Bearer {API_KEY}"}
        )
        assert answer.status_code == 401


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_every_route_lets_in_the_keys_of_its_scope_and_of_admin_alone(
    database_url: str, database: Database, subtests: pytest.Subtests
) -> None:
    made = {scope: (await Keys(database).create(f"only {scope}", (scope,), None)).key for scope in SCOPES}
    async with serve(database_url, "") as (client, routes):
        for method, path in routes:
            if path in OPEN:
                continue
            answers = {scope: await client.request(method, path, headers=bearer(key)) for scope, key in made.items()}
            refused = {scope for scope, answer in answers.items() if answer.status_code == 403}
            with subtests.test(f"{method} {path}"):
                assert 401 not in {answer.status_code for answer in answers.values()}
                assert "admin" not in refused
                # The scope that lets in is the one that each refusal names, and there is no other but admin.
                scope, *others = [each for each in SCOPES if each not in refused]
                assert others in ([], ["admin"])
                assert refused == {other for other in SCOPES if not allows((other,), scope)}
                for other in refused:
                    if method != "HEAD":
                        error = answers[other].json()["error"]
                        assert error["type"] == "permission_error"
                        assert f"scope '{scope}'" in error["message"]


async def test_what_can_change_something_is_not_let_in_by_a_key_that_only_reads(
    database_url: str, database: Database
) -> None:
    key = (await Keys(database).create("dashboard", ("read",), None)).key
    async with serve(database_url, "") as (client, routes):
        changing = [(method, path) for method, path in routes if method not in {"GET", "HEAD"}]
        assert len(changing) > 4
        for method, path in changing:
            assert (await client.request(method, path, headers=bearer(key))).status_code == 403, (method, path)
        assert (await client.get("/v1/batch-calls", headers=bearer(key))).status_code == 200
        assert (await client.get("/v1/audit", headers=bearer(key))).status_code == 403


async def test_a_key_that_is_unknown_one_that_was_revoked_and_one_that_has_expired_are_refused_alike(
    database_url: str, database: Database
) -> None:
    keys = Keys(database)
    live = await keys.create("live", SCOPES, timedelta(days=90))
    revoked = await keys.create("revoked", SCOPES, None)
    expired = await keys.create("expired", SCOPES, timedelta(hours=1))
    await keys.revoke("revoked")
    await database.pool.execute("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    async with serve(database_url, API_KEY) as (client, _):
        assert (await client.get("/v1/batch-calls", headers=bearer(live.key))).status_code == 200
        unknown = live.key[:-1] + ("A" if live.key[-1] != "A" else "B")
        refused = [
            await client.get("/v1/batch-calls", headers=bearer(key)) for key in (revoked.key, expired.key, unknown)
        ]
    assert [answer.status_code for answer in refused] == [401] * 3
    assert len({answer.content for answer in refused}) == 1
    assert len({answer.headers.pop("x-request-id") for answer in refused}) == 3
    assert len({tuple(sorted(answer.headers.items())) for answer in refused}) == 1


async def test_a_key_expires_while_the_service_holds_it(database: Database) -> None:
    made = await Keys(database).create("short", ("read",), timedelta(hours=1))
    expires_at = made.row["expires_at"]
    times = iter([expires_at - timedelta(seconds=1), expires_at])
    ring = auth.KeyRing(database, "", now=lambda: next(times))
    await ring.refresh()
    assert ring.find(made.key) is not None
    assert ring.find(made.key) is None


async def test_a_key_made_or_revoked_holds_on_every_running_replica(
    start_service: StartService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REFRESH_SECONDS", 0.01)
    async with start_service() as one, start_service() as another:
        made = await Keys(database).create("late", ("read",), None)
        for client in (one, another):
            while (await client.get("/v1/batch-calls", headers=bearer(made.key))).status_code != 200:
                pass  # the test's time limit ends this when it never comes
        await Keys(database).revoke(str(made.row["key_id"]))
        for client in (one, another):
            while (await client.get("/v1/batch-calls", headers=bearer(made.key))).status_code != 401:
                pass


async def test_a_flood_of_wrong_keys_asks_the_database_nothing(start_service: StartService, database: Database) -> None:
    made = await Keys(database).create("known", ("read",), None)
    async with start_service() as client:
        await database.pool.execute("ALTER TABLE api_keys RENAME TO gone")  # reading keys now fails
        for number in range(200):
            answer = await client.get("/v1/batch-calls", headers=bearer(f"outcomes_{number}"))
            assert answer.status_code == 401
        assert (await client.get("/v1/batch-calls", headers=bearer(made.key))).status_code == 200


async def test_while_the_database_is_away_for_long_stored_keys_are_put_off_and_the_configured_one_is_not(
    database: Database,
) -> None:
    made = await Keys(database).create("known", ("read",), None)
    seconds = [0.0]
    ring = auth.KeyRing(database, API_KEY, clock=lambda: seconds[0])
    await ring.refresh()
    authenticator = Authenticator(ring)
    for at, stored in ((auth.TRUSTED_SECONDS, None), (auth.TRUSTED_SECONDS + 1, UnavailableError)):
        seconds[0] = at
        await authenticator.require(ask(API_KEY), "admin")
        if stored is None:
            await authenticator.require(ask(made.key), "read")
        else:
            with pytest.raises(stored):
                await authenticator.require(ask(made.key), "read")


def ask(key: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]})


async def test_the_last_use_is_recorded_in_the_background_once_a_minute(database: Database) -> None:
    made = await Keys(database).create("used", ("read",), None)
    seconds, now = [0.0], [datetime(2026, 3, 16, tzinfo=UTC)]
    rings = [auth.KeyRing(database, "", clock=lambda: seconds[0], now=lambda: now[0]) for _ in range(2)]
    noted = []
    for elapsed in (0, 10, 59, 61, 200):
        seconds[0] = float(elapsed)
        now[0] = datetime(2026, 3, 16, tzinfo=UTC) + timedelta(seconds=elapsed)
        for ring in rings:
            await ring.refresh()
            assert ring.find(made.key) is not None
        before = await database.pool.fetchval("SELECT last_used_at FROM api_keys")
        for ring in rings:
            await ring.note_uses()
        after = await database.pool.fetchval("SELECT last_used_at FROM api_keys")
        noted.append((elapsed, after != before))
    assert noted == [(0, True), (10, False), (59, False), (61, True), (200, True)]

"""Who gets in: every route but the receiver, the probes and the docs asks for a key, also those that come later."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.routing import Route

from service.app import Front, open_app
from service.server import serve_in_background
from service.settings import read_settings
from tests.conftest import API_KEY, SECRET
from tests.factories import make_payload, post_webhook

OPEN = {"/healthz": 200, "/readyz": 200, "/metrics": 200, "/openapi.json": 200, "/docs": 200, "/docs/file": 404}
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
    async with open_app(settings, database_url) as app, serve_in_background(app, "127.0.0.1", 0) as port:
        assert isinstance(app, Front)
        routes = [
            (method, route.path.replace("{", "").replace("}", ""))
            for route in app._routes.routes  # type: ignore[attr-defined]
            for method in sorted(route.methods or ())
        ]
        assert all(isinstance(route, Route) for route in app._routes.routes)  # type: ignore[attr-defined]
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

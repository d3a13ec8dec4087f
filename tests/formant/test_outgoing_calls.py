"""Calls of ours go where the settings say: a redirect to another server is not followed, and takes no key along."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from service.crm.exchange import SyncError, exchange
from service.crm.feed import open_feed
from service.crm.targets import open_target
from service.errors import ProviderError
from service.formant.client import FormantClient, open_http
from service.sandbox.serving import serve_app
from service.telemetry.metrics import Metrics
from tests.conftest import StartService
from tests.provider import upload

KEY = "outgoing-key"
REDIRECTS = (301, 302, 303, 307, 308)


class Elsewhere:
    """A server that no configuration names; it keeps what it is sent."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"11")]})
        await send({"type": "http.response.body", "body": b'{"data":{}}'})


class Redirecting:
    """The configured server; it sends everybody to another one."""

    def __init__(self, status: int, elsewhere: str) -> None:
        self.keys: list[bytes] = []
        self._status = status
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.keys.append(dict(scope["headers"])[b"authorization"])
        while (await receive()).get("more_body"):
            pass
        headers = [(b"location", f"{self._elsewhere}{scope['path']}".encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serve_redirecting(status: int) -> AsyncIterator[tuple[str, Redirecting, Elsewhere]]:
    """Both, on two ports; gives the address of the first."""
    elsewhere = Elsewhere()
    async with serve_app(elsewhere) as there:
        redirecting = Redirecting(status, there)
        async with serve_app(redirecting) as here:
            yield here, redirecting, elsewhere


@pytest.mark.parametrize("status", REDIRECTS)
async def test_the_providers_redirect_is_not_followed(status: int) -> None:
    async with serve_redirecting(status) as (url, redirecting, elsewhere), open_http(url, KEY) as http:
        client = FormantClient(http, Metrics())
        with pytest.raises(ProviderError, match="not followed"):
            await client.get_batch(456)
        assert redirecting.keys == [f"Bearer {KEY}".encode()]
        assert elsewhere.seen == []


@pytest.mark.parametrize("status", REDIRECTS)
async def test_an_upload_goes_to_nobody_but_the_provider(start_service: StartService, status: int) -> None:
    async with serve_redirecting(status) as (url, redirecting, elsewhere):
        async with start_service(FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY) as service:
            answer = await upload(service)
            assert answer.status_code == 504
            assert answer.json()["error"]["type"] == "upload_unknown"
        assert f"Bearer {KEY}".encode() in redirecting.keys
        assert elsewhere.seen == []


@pytest.mark.parametrize("status", REDIRECTS)
async def test_the_crm_job_follows_neither_the_service_nor_the_crm(status: int) -> None:
    async with serve_redirecting(status) as (url, redirecting, elsewhere):
        async with open_feed(url, KEY) as feed:
            with pytest.raises(SyncError, match="not followed"):
                await exchange(feed, "The service", "GET", "/v1/feed")
        async with open_target(KEY) as crm:
            with pytest.raises(SyncError, match="not followed"):
                await exchange(crm, "The CRM", "POST", f"{url}/records", json={})
        assert redirecting.keys == [f"Bearer {KEY}".encode()] * 2
        assert elsewhere.seen == []


async def test_no_host_header_leads_a_call_of_ours_astray(start_service: StartService) -> None:
    elsewhere = Elsewhere()
    async with serve_app(elsewhere) as there:
        async with serve_redirecting(302) as (url, redirecting, _):
            async with start_service(FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY) as service:
                host = there.removeprefix("http://")
                forwarded = {"host": host, "x-forwarded-host": host, "forwarded": f"host={host}"}
                service.headers.update(forwarded)
                assert (await upload(service)).status_code == 504
            assert redirecting.keys
        assert elsewhere.seen == []

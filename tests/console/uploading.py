"""A signed-in person who uploads files through the console, as the page's script does it."""

import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx

from service.sandbox import RunningSandbox
from tests.conftest import API_KEY, StartService
from tests.provider import CONTACTS, connect_provider

FORM = {"agent_id": "123", "name": "March Follow Ups"}


class Form(NamedTuple):
    """What a check leaves on the page: the value of the tick, and the key of the button."""

    report_digest: str
    key: str


class Visitor:
    """A browser of a signed-in person."""

    def __init__(self, client: httpx.AsyncClient, token: str = "") -> None:
        self.client = client
        self.token = token

    async def post(
        self,
        path: str,
        content: str | bytes = CONTACTS,
        *,
        file_name: str = "contacts.csv",
        headers: Mapping[str, str] = MappingProxyType({}),
        **query: Any,
    ) -> httpx.Response:
        """Sends a file as the page's script does: the choices in the address, the token in a header."""
        return await self.client.post(
            f"/console/upload{path}",
            params={**FORM, **query},
            files={"file": (file_name, content, "text/csv")},
            headers={"x-csrf-token": self.token, **headers},
        )

    async def check(self, content: str | bytes = CONTACTS, **query: Any) -> str:
        answer = await self.post("/check", content, **query)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def call(self, form: Form, content: str | bytes = CONTACTS, **query: Any) -> httpx.Response:
        headers = {"idempotency-key": form.key}
        return await self.post("", content, headers=headers, report_digest=form.report_digest, **query)


def read_form(page: str) -> Form:
    digest = re.search(r'name="report_digest" value="([0-9a-f]{64})"', page)
    key = re.search(r'"Idempotency-Key": "([0-9a-f]{32})"', html.unescape(page))
    assert digest, page
    assert key, page
    return Form(digest[1], key[1])


@asynccontextmanager
async def browse(client: httpx.AsyncClient, key: str = API_KEY) -> AsyncIterator[Visitor]:
    """A browser that knows no API key, signed in with ``key``."""
    async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as browser:
        assert (await browser.post("/console/sign-in", data={"key": key})).status_code == 303
        page = await browser.get("/console/components")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token
        yield Visitor(browser, token[1])


@asynccontextmanager
async def visit(start_service: StartService) -> AsyncIterator[tuple[Visitor, RunningSandbox]]:
    """A signed-in person at a service with its provider."""
    async with connect_provider(start_service) as (service, sandbox), browse(service) as visitor:
        yield visitor, sandbox

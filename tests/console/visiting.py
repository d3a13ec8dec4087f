"""A browser without JavaScript: signs in, reads pages and sends their forms."""

import re
from typing import Any

import httpx

from tests.conftest import API_KEY

TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


class Visitor:
    """A person who is signed in to the console of ``service``."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, *, is_fragment: bool = False) -> httpx.Response:
        return await self.client.get(path, headers={"hx-request": "true"} if is_fragment else {})

    async def read(self, path: str) -> str:
        """The page, which must be there."""
        answer = await self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.text

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        """Sends a form with the session's token."""
        page = await self.client.get("/console/no-such-page")
        token = TOKEN.search(page.text)
        assert token is not None
        return await self.client.post(path, data={"csrf_token": token[1], **fields})


async def sign_in(service: httpx.AsyncClient, key: str = API_KEY) -> Visitor:
    """A visitor who has signed in with a key."""
    client = httpx.AsyncClient(base_url=service.base_url, timeout=30.0)
    answer = await client.post("/console/sign-in", data={"key": key})
    assert answer.status_code == 303, answer.text
    return Visitor(client)

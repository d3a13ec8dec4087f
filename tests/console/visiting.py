"""A browser without JavaScript: signs in, reads pages and sends their forms."""

import re
from typing import Any

import httpx

from tests.conftest import API_KEY

TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


class Visitor:
    """A person with the cookies of a session; without any, a stranger."""

    def __init__(self, base_url: httpx.URL, cookies: httpx.Cookies | None = None) -> None:
        self.base_url = base_url
        self.cookies = cookies or httpx.Cookies()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, to which no redirect is followed; its cookies are kept."""
        url, cookies = self.base_url, self.cookies
        async with httpx.AsyncClient(base_url=url, cookies=cookies, timeout=30.0, verify=False) as client:
            answer = await client.request(method, path, **options)
            self.cookies = client.cookies
            return answer

    async def get(self, path: str, *, is_fragment: bool = False) -> httpx.Response:
        return await self.request("GET", path, headers={"hx-request": "true"} if is_fragment else {})

    async def read(self, path: str) -> str:
        """The page, which must be there."""
        answer = await self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.text

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        """Sends a form with the session's token."""
        token = TOKEN.search((await self.get("/console/no-such-page")).text)
        assert token is not None
        return await self.post_without_token(path, csrf_token=token[1], **fields)

    async def follow(self, path: str, **fields: Any) -> httpx.Response:
        """Sends a form, which must lead on, and reads the page that it leads to."""
        led = await self.post(path, **fields)
        assert led.status_code == 303, (path, led.status_code, led.text)
        return await self.get(led.headers["location"])

    async def post_without_token(self, path: str, **fields: Any) -> httpx.Response:
        """Sends a form as another site would make the browser send it."""
        return await self.request("POST", path, data=fields)


async def sign_in(service: httpx.AsyncClient, key: str = API_KEY) -> Visitor:
    """A visitor who has signed in with a key."""
    visitor = Visitor(service.base_url)
    answer = await visitor.request("POST", "/console/sign-in", data={"key": key})
    assert answer.status_code == 303, answer.text
    return visitor

"""A real browser for the tests of the console: Debian's Chromium, driven by playwright."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.conftest import API_KEY

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
LARGE, SMALL = {"width": 1440, "height": 900}, {"width": 320, "height": 640}
SHOTS = os.environ.get("CONSOLE_SHOTS", "")
"""A folder for screenshots of each page; empty for none."""
ZONE = "Asia/Kolkata"


class Person:
    """Somebody at a browser, signed in. ``complaints`` is what the browser's console said, which should be nothing."""

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} ({message.location['url']})")

    async def go(self, path: str) -> None:
        """Opens a page of the console and waits until it is loaded."""
        await self.page.goto(self.base_url + path)

    async def press(self, button: str) -> None:
        """Presses the button of a form and waits until the page that answers is loaded. A click alone returns while the
        old page still stands, or none."""
        async with self.page.expect_navigation():
            await self.page.get_by_role("button", name=button).first.click()

    async def read(self) -> str:
        """The text of the page's main part."""
        return await self.page.inner_text("main")

    async def check(self, name: str) -> None:
        """Holds the page to what every page promises: nothing that axe-core finds, no scrolling sideways, and a silent
        browser console; takes a screenshot of it if asked to."""
        if SHOTS:
            scheme = await self.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
            width = self.page.viewport_size["width"] if self.page.viewport_size else 0
            path = Path(SHOTS) / f"{name}-{width}-{scheme}.png"
            await self.page.screenshot(path=path, full_page=True)
        wide = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
        found = await Axe().run(self.page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert self.complaints == [], name


SignIn = Callable[..., Awaitable[Person]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium; skips where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield browser
        await browser.close()


@pytest.fixture
async def sign_in(browser: Browser) -> AsyncIterator[SignIn]:
    """Signs somebody in: ``await sign_in(service)``, with a key, a viewport and a color scheme if needed."""
    async with AsyncExitStack() as stack:

        async def enter(
            service: httpx.AsyncClient,
            key: str = API_KEY,
            *,
            viewport: dict[str, int] | None = None,
            scheme: Any = "light",
            **options: Any,
        ) -> Person:
            context: BrowserContext = await browser.new_context(
                viewport=viewport or LARGE,  # type: ignore[arg-type]
                color_scheme=scheme,
                timezone_id=ZONE,
                reduced_motion="reduce",
                **options,
            )
            stack.push_async_callback(context.close)
            base_url = str(service.base_url).rstrip("/")
            await context.add_cookies([{"name": "outcomes_zone", "value": ZONE, "url": f"{base_url}/console"}])
            answer = await context.request.post(
                f"{base_url}/console/sign-in", form={"key": key}, headers={"origin": base_url}, max_redirects=0
            )
            assert answer.status == 303, await answer.text()
            return Person(await context.new_page(), base_url)

        yield enter

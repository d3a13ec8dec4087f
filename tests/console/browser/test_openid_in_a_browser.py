"""A person signs in with their company's account, in a browser and at a real OpenID provider."""

import re

import httpx
import pytest
from playwright.async_api import Browser, expect

from service.app import DEFAULT_BACKLOG_LIMITS
from tests.conftest import StartService
from tests.console.browser.conftest import Person
from tests.console.openid import CLIENT_ID, CLIENT_SECRET, run_provider
from tests.provider import find_free_port


@pytest.mark.timeout(180)
async def test_a_person_signs_in_at_the_provider_and_lands_on_the_page_they_asked_for(
    start_service: StartService, browser: Browser
) -> None:
    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    with run_provider(callback=f"{address}/console/sign-in/callback") as issuer:
        async with start_service(
            DEFAULT_BACKLOG_LIMITS,
            port,
            OUTCOMES_PUBLIC_URL=address,
            OUTCOMES_OIDC_ISSUER=issuer,
            OUTCOMES_OIDC_CLIENT_ID=CLIENT_ID,
            OUTCOMES_OIDC_CLIENT_SECRET=CLIENT_SECRET,
            OUTCOMES_OIDC_SCOPES="openid profile groups",
            OUTCOMES_OIDC_GROUP_SCOPES="analysts=read;ops=read,upload",
        ) as service:
            context = await browser.new_context()
            person = Person(await context.new_page(), address)
            await person.go("/console/uploads?outcome=unknown")
            await sign_in(person, "asha")
            await expect(person.page).to_have_url(re.compile(r"/console/uploads\?outcome=unknown$"))
            await expect(person.page.locator("header")).to_contain_text("Asha Rao")
            assert await read_scopes(service) == [["read"]]
            # What the provider's own pages say to the browser's console is not the service's.
            person.complaints.clear()
            await person.check("signed-in-by-openid")
            await person.page.locator("summary", has_text="Asha Rao").click()
            await person.press("Sign out")
            await expect(person.page.get_by_role("link", name="Sign in with your company account")).to_be_visible()
            await context.close()

            stranger = Person(await (context := await browser.new_context()).new_page(), address)
            await stranger.go("/console")
            await sign_in(stranger, "nobody")
            await expect(stranger.page.get_by_role("alert")).to_contain_text("groups")
            assert await read_scopes(service) == []
            await context.close()


async def sign_in(person: Person, name: str) -> None:
    """Follows the link to the provider, signs in there and agrees to what the service asks for."""
    await person.page.get_by_role("link", name=re.compile("^Sign in with")).click()
    await person.page.get_by_placeholder("Enter any login").fill(name)
    await person.page.get_by_placeholder("and password").fill("any")
    await person.press("Sign-in")
    await person.press("Continue")


async def read_scopes(service: httpx.AsyncClient) -> list[list[str]]:
    return [session["scopes"] for session in (await service.get("/v1/sessions")).json()["data"]]

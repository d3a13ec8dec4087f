"""The console in a browser, as people use it: a batch comes to life, is healed and becomes final; a bad file is
corrected and called; an alarm appears and clears. The browser's console stays silent throughout."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from service.sandbox import RunningSandbox, sample_contacts
from tests.conftest import StartService, make_starter
from tests.console.browser.conftest import LARGE, SMALL, Person, SignIn
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook
from tests.provider import connect_provider, count_uploads, upload

BATCH = "/console/batches/456"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>{{ 7 * 7 }}\u202e'


@asynccontextmanager
async def furnish(database_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, RunningSandbox]]:
    """A service with something on every page: a finished batch, a test batch with a held main batch, callbacks, a goal,
    a consumer, an event in quarantine and one that fits nobody."""
    async with connect_provider(make_starter(database_url), plays=True) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.2
        assert (await upload(service, sample_contacts(30, seed=4))).status_code == 200
        await sandbox.sandbox.wait_until_done(456)
        assert (await service.post("/v1/batch-calls/456/reconcile")).json()["data"]["verdict"] == "complete"
        assert (await upload(service, sample_contacts(20, seed=5), test_recipients="5")).status_code == 200
        for path, content in (
            ("/v1/agents/123/goal", {"results": {"intent": ["promise_to_pay"]}}),
            ("/v1/agents/123/callbacks", {"results": ["callback_time", "promise_date"]}),
            ("/v1/feed/consumers/crm", {"position": 3}),
        ):
            assert (await service.put(path, json=content)).status_code == 200
        assert (await post_webhook(service, b"no event")).status_code == 204
        assert (await post_webhook(service, make_payload(event_id="of-nobody", agent_id=9))).status_code == 204
        await eventually(lambda: follow_settings(service))
        yield service, sandbox


async def follow_settings(service: httpx.AsyncClient) -> bool:
    """Whether the calls from before the settings of callbacks follow them."""
    return bool((await service.get("/v1/callbacks")).json()["is_applied"])


PAGES = {
    "today": "/console",
    "batch": BATCH,
    "batch-sliced": f"{BATCH}?by=results.intent",
    "batch-earlier": f"{BATCH}?as_of=2026-03-16T10:30",
    "batch-test": "/console/batches/457",
    "people-of-a-batch": f"{BATCH}/people?state=completed",
    "people-nobody": f"{BATCH}/people?min_attempts=50",
    "person": f"{BATCH}/people/1",
    "people": "/console/people",
    "callbacks": "/console/callbacks",
    "callbacks-settings": "/console/callbacks/settings",
    "compare": "/console/compare?left=batch:456&right=batch:457&by=results.intent",
    "compare-empty": "/console/compare",
    "upload": "/console/upload",
    "uploads": "/console/uploads",
    "connections": "/console/connections",
    "health": "/console/health",
    "health-webhooks": "/console/health/webhooks",
    "health-quarantine": "/console/health/quarantine",
    "health-unattributed": "/console/health/unattributed",
    "health-keys": "/console/health/keys",
    "health-sessions": "/console/health/sessions",
    "health-audit": "/console/health/audit",
    "health-erasures": "/console/health/erasures",
    "health-retention": "/console/health/retention",
    "components": "/console/components",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("viewport", "scheme"), [(LARGE, "light"), (LARGE, "dark"), (SMALL, "light"), (SMALL, "dark")],
    ids=["large-light", "large-dark", "small-light", "small-dark"],
)  # fmt: skip
async def test_every_page_is_accessible_fits_and_is_silent(
    database_url: str, sign_in: SignIn, viewport: dict[str, int], scheme: str
) -> None:
    async with furnish(database_url) as (service, _):
        person = await sign_in(service, viewport=viewport, scheme=scheme)
        for name, path in PAGES.items():
            await person.go(path)
            await person.check(name)
        await person.page.context.clear_cookies()
        await person.go("/console/batches/456")
        await expect(person.page.get_by_label("API key")).to_be_visible()
        await person.check("sign-in")


async def test_a_batch_comes_to_life_and_becomes_final_before_ones_eyes(
    start_service: StartService, sign_in: SignIn
) -> None:
    async with connect_provider(start_service, start=time.time() - 43_200) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.3
        person = await sign_in(service)
        await person.go("/console")
        await expect(person.page.get_by_text("Nothing is running, and nothing is wrong.")).to_be_visible()
        assert (await upload(service, sample_contacts(40, seed=4))).status_code == 200
        card = person.page.get_by_role("article").filter(has_text="March Follow Ups")
        await expect(card).to_contain_text("0 of 40 done", timeout=15_000)
        await card.get_by_role("link", name="March Follow Ups").click()
        await sandbox.sandbox.advance(86_400)
        await sandbox.sandbox.wait_until_done(456)
        finality = person.page.locator(".finality")
        await expect(person.page.locator("#live")).not_to_contain_text("In progress 40", timeout=15_000)
        await expect(finality).not_to_contain_text("Final")
        await person.page.get_by_role("button", name="Compare with the provider now").click()
        await expect(finality).to_contain_text("Final", timeout=15_000)
        await finality.get_by_text("How this was checked").click()
        await expect(finality).to_contain_text("were fetched from the provider's records")
        assert person.complaints == []


async def test_a_person_who_asked_for_a_callback_is_found_downloaded_and_marked_as_done(
    database_url: str, sign_in: SignIn
) -> None:
    async with furnish(database_url) as (service, _):
        person = await sign_in(service, accept_downloads=True)
        await person.go("/console/callbacks")
        rows = person.page.get_by_role("row")
        await expect(rows.nth(1)).to_contain_text("***")
        count = await rows.count()
        assert count > 1
        await person.press("Show phones")
        await expect(rows.nth(1)).not_to_contain_text("***")
        async with person.page.expect_download() as download:
            await person.page.get_by_role("link", name="CSV", exact=True).click()
        text = Path(await (await download.value).path()).read_text()
        assert text.count("\n") >= count
        await rows.nth(1).get_by_label("Note").fill("paid at the branch")
        await person.press("Mark as done")
        await person.go("/console/callbacks?state=done")
        await expect(person.page.get_by_role("row").nth(1)).to_contain_text("paid at the branch")
        actions = {line["action"] for line in (await service.get("/v1/audit")).json()["data"]}
        assert {"person_revealed", "callback"} <= actions
        assert person.complaints == []


async def test_the_rest_of_a_test_batch_is_called_only_after_the_number_of_people_is_ticked(
    database_url: str, sign_in: SignIn
) -> None:
    async with furnish(database_url) as (service, sandbox):
        await sandbox.sandbox.wait_until_done(457)
        assert count_uploads(sandbox)[0] == 2
        person = await sign_in(service)
        await person.go("/console/batches/457")
        promote = person.page.get_by_role("button", name="Promote: call the rest")
        await promote.click()
        assert count_uploads(sandbox)[0] == 2
        await person.page.get_by_label("15 people will be called now").check()
        await promote.click()
        await expect(person.page.get_by_text("is being sent to the provider")).to_be_visible()
        assert count_uploads(sandbox)[0] == 3
        assert person.complaints == []


async def test_a_bad_file_is_corrected_and_its_people_are_called_once(
    start_service: StartService, sign_in: SignIn, tmp_path: Path
) -> None:
    bad = tmp_path / "customers.csv"
    bad.write_text("Telephone;name\n+919876543210;Rahul\n12;Nobody\n+919812345678;Anita\n", encoding="utf-8")
    good = tmp_path / "corrected.csv"
    good.write_text("customer_phone,name\n+919876543210,Rahul\n+919812345678,Anita\n", encoding="utf-8")
    async with connect_provider(start_service) as (service, sandbox):
        person = await sign_in(service)
        await person.go("/console/upload")
        page = person.page
        await page.locator("input[type=file]").set_input_files(bad)
        await page.get_by_label("Agent", exact=False).first.fill("123")
        await page.get_by_label("Name", exact=False).first.fill("Reminder")
        await page.get_by_role("button", name=re.compile("^Check")).first.click()
        await expect(page.locator("main")).to_contain_text("Telephone", timeout=10_000)
        assert count_uploads(sandbox) == (0, 0)
        await page.locator("input[type=file]").set_input_files(good)
        await page.get_by_role("button", name=re.compile("^Check")).first.click()
        tick = page.get_by_label("2 people will be called now", exact=False)
        await expect(tick).to_be_visible(timeout=10_000)
        await tick.check()
        await page.get_by_role("button", name=re.compile("^Call")).first.click()
        await expect(page).to_have_url(re.compile("/console/batches/456"), timeout=10_000)
        assert count_uploads(sandbox) == (1, 0)


async def test_an_alarm_appears_on_the_page_that_is_open_and_clears(
    start_service: StartService, sign_in: SignIn
) -> None:
    async with start_service() as service:
        person = await sign_in(service)
        await person.go("/console")
        alarm = person.page.get_by_text("Reports of calls could not be read")
        await expect(alarm).to_have_count(0)
        unheard = make_payload() | {"event_type": "call.unheard_of"}
        assert (await post_webhook(service, unheard)).status_code == 204
        await expect(alarm).to_be_visible(timeout=15_000)
        assert person.complaints == []


async def test_nothing_from_outside_runs_or_breaks_out_of_its_place(
    start_service: StartService, sign_in: SignIn
) -> None:
    async with connect_provider(start_service) as (service, _):
        cell = '"' + HOSTILE.replace('"', '""') + '"'
        contacts = f"customer_phone,{cell}\n+919876543210,{cell}\n"
        answer = await upload(service, contacts, name=HOSTILE, file_name="<b>.csv", accept_columns="true")
        assert answer.status_code == 200, answer.text
        payload = make_payload(
            event_id=HOSTILE, results={"intent": HOSTILE, HOSTILE: [HOSTILE]}, conversation_id=HOSTILE, agent_id=123
        )
        payload["data"]["transcript"] = HOSTILE
        payload["data"]["call"] |= {"to_phone": "+919876543210", "failure_reason": HOSTILE}
        payload["data"]["call"]["call_parameters"] = {}
        assert (await post_webhook(service, payload)).status_code == 204
        person = await sign_in(service)
        person.page.on("dialog", lambda dialog: person.complaints.append(dialog.message))
        for path in (
            "/console", BATCH, f"{BATCH}?by=results.intent", f"{BATCH}/people", f"{BATCH}/people/1", "/console/uploads",
            "/console/compare?left=batch:456&right=batch:456", "/console/people", "/console/health/unattributed",
            "/console/health/audit",
        ):  # fmt: skip
            await person.go(path)
            assert await person.page.locator("main img, main script").count() == 0
            assert "49" not in (await person.page.title())
        assert [line for line in person.complaints if "400" not in line] == []


async def test_pages_can_be_read_without_javascript(database_url: str, sign_in: SignIn) -> None:
    async with furnish(database_url) as (service, _):
        person: Person = await sign_in(service, java_script_enabled=False)
        await person.go(BATCH)
        text = await person.read()
        assert "Final: the figures equal the provider's" in text
        assert "Retries expected" in text  # the table from which the chart is drawn
        await person.page.get_by_role("link", name="completed").click()
        await expect(person.page.get_by_role("table")).to_contain_text("Reached")


async def test_a_page_is_used_by_keyboard_alone(database_url: str, sign_in: SignIn) -> None:
    async with furnish(database_url) as (service, _):
        person = await sign_in(service)
        await person.go("/console")
        await person.page.keyboard.press("Tab")
        await expect(person.page.get_by_text("Skip to the content")).to_be_focused()
        await person.page.keyboard.press("Enter")
        await person.page.keyboard.press("Tab")
        focused = await person.page.evaluate("document.querySelector('main').contains(document.activeElement)")
        assert focused


async def test_signing_in_by_hand_leads_back_to_the_page_that_was_asked_for(database_url: str, sign_in: SignIn) -> None:
    async with furnish(database_url) as (service, _):
        person = await sign_in(service)
        await person.page.context.clear_cookies()
        await person.go(f"{BATCH}/people?state=busy")
        await person.page.get_by_label("API key").fill("wrong")
        await person.page.get_by_role("button", name="Sign in").click()
        await expect(person.page.get_by_role("alert")).to_contain_text("not known")
        await person.page.get_by_label("API key").fill("test-key")
        await person.page.get_by_role("button", name="Sign in").click()
        await expect(person.page).to_have_url(re.compile(r"/console/batches/456/people\?state=busy"))
        await person.page.locator("summary", has_text="OUTCOMES_API_KEY").click()
        await person.page.get_by_role("button", name="Sign out").click()
        await expect(person.page.get_by_label("API key")).to_be_visible()

"""The slider over a batch's life says where it is while it moves; without JavaScript there is a field."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.async_api import expect

from service.store.database import Database
from tests.console.browser.conftest import SignIn
from tests.factories import make_payload, post_webhook, store_batch

BATCH = "/console/batches/456"


@pytest.mark.timeout(120)
async def test_the_slider_sets_and_says_the_moment(
    service: httpx.AsyncClient, database: Database, sign_in: SignIn
) -> None:
    began = datetime.now(UTC) - timedelta(days=1)
    await store_batch(database.url, 3, prepared_at=began)
    await database.pool.execute("UPDATE batch_versions SET changed_at = $1", began)
    assert (await post_webhook(service, make_payload(began=datetime.now(UTC)))).status_code == 204
    person = await sign_in(service)
    await person.go(BATCH)
    slider, field = person.page.get_by_role("slider"), person.page.get_by_label("Day and time")
    await expect(slider).to_have_attribute("aria-valuetext", "now")
    await expect(field).to_have_value("")
    await slider.focus()
    await slider.press("PageDown")
    said = await slider.get_attribute("aria-valuetext")
    assert said is not None
    assert said != "now"
    await expect(person.page.locator("output")).to_have_text(said)
    moment = await field.input_value()
    assert moment[11:] in said, (moment, said)
    await slider.press("ArrowLeft")
    await expect(slider).not_to_have_attribute("aria-valuetext", said)
    await person.page.get_by_role("button", name="Show").last.click()
    await expect(person.page.get_by_role("heading", name="As of")).not_to_contain_text("now")
    assert "as_of=" in person.page.url
    assert "%2B00%3A00" in person.page.url
    await expect(slider).not_to_have_attribute("aria-valuetext", "now")
    await person.check("batch-as-of")
    await slider.press("End")
    await expect(field).to_have_value("")


@pytest.mark.timeout(60)
async def test_without_javascript_the_field_alone_is_there(
    service: httpx.AsyncClient, database: Database, sign_in: SignIn
) -> None:
    await store_batch(database.url, 3, prepared_at=datetime.now(UTC) - timedelta(days=1))
    person = await sign_in(service, java_script_enabled=False)
    await person.go(BATCH)
    assert await person.page.get_by_role("slider").count() == 0
    await expect(person.page.get_by_label("Day and time")).to_be_visible()

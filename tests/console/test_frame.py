"""What all pages have in common: unknown addresses, refusals, long values, and tables on a small screen."""

import re
from pathlib import Path

import pytest

from service.access.keys import Keys
from service.console.rendering import FOLDER, Renderer
from service.store.database import Database
from tests.conftest import StartService
from tests.console.uploading import browse
from tests.provider import connect_provider


async def test_unknown_addresses_and_refusals_are_pages_that_lead_where_the_person_may_go(
    start_service: StartService, database: Database
) -> None:
    uploader = await Keys(database).create("uploader", ("upload",), None)
    async with connect_provider(start_service) as (service, _), browse(service, uploader.key) as visitor:
        answer = await visitor.client.post("/console/nothing", headers={"x-csrf-token": visitor.token})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "There is no such page" in answer.text
        refused = await visitor.client.get("/console/compare")
        assert (refused.status_code, "Today" in refused.text) == (403, False)
        assert "Back to your first page" in refused.text


def test_a_long_value_is_folded() -> None:
    templates = Renderer("UTC")._templates
    show = templates.from_string('{% from "macros.html" import values with context %}{{ values(fields) }}')
    long, short = show.render(fields={"a": "x" * 301, "b": 5}), show.render(fields={"a": "x" * 300})
    assert '<details class="long"><summary>' + "x" * 79 + "…" in long
    assert "x" * 301 in long
    assert "<details" not in short


@pytest.mark.parametrize(
    "name",
    ["callbacks", "health/sessions", "health/keys", "health/quarantine", "health/unattributed",
     "health/unattributed_event"],
)  # fmt: skip
def test_on_a_small_screen_every_cell_of_a_table_with_actions_has_its_label(name: str) -> None:
    text = Path(FOLDER, "templates", f"{name}.html").read_text()
    tables = re.findall(r'<table class="cards" role="table">.*?</table>', text, re.DOTALL)
    assert len(tables) == 1
    heads = re.findall(r'role="columnheader"[^>]*>([^<]+)<', tables[0])
    assert re.findall(r'<td role="cell" data-label="([^"]+)"', tables[0]) == heads[1:]
    assert "<td>" not in tables[0]

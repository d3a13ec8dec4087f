"""The page Connections: consumers, replay, pause, and commands filled in."""

import httpx

from service.access.keys import Keys
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import Visitor, sign_in
from tests.eventually import eventually
from tests.factories import decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest

PAGE = "/console/connections"
CRM = f"{PAGE}/consumers/crm"


async def fill(database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(*(make_payload(recipient=number) for number in (1, 2, 3))))


async def test_consumers_are_listed_with_what_they_lag_and_the_table_renews_itself(
    start_service: StartService, database: Database
) -> None:
    await fill(database)
    async with start_service() as service:
        visitor = await sign_in(service)
        assert "No consumer yet" in await visitor.read(PAGE)
        await service.put("/v1/feed/consumers/crm", json={"position": 1})
        await service.put("/v1/feed/consumers/done", json={"position": 3})

        async def read_live() -> str:
            return (await visitor.get(f"{PAGE}/live", is_fragment=True)).text

        live = await eventually(read_live, lambda page: "Behind" in page)
        assert "Behind" in live
        assert "Up to date" in live
        assert f'href="{CRM}"' in live
        assert "<html" not in live
        page = await visitor.read(PAGE)
        assert f"{service.base_url}/v1/feed?after=0" in page
        assert "user=bi_reader" in page
        assert database.url not in page


async def test_a_position_is_set_back_only_once_the_changes_are_named_and_ticked(
    start_service: StartService, database: Database
) -> None:
    await fill(database)
    async with start_service() as service:
        visitor = await sign_in(service)
        await service.put("/v1/feed/consumers/crm", json={"position": 3})
        asked = await visitor.read(f"{CRM}?from=1")
        assert "2 changes after position 1 will be sent again" in asked
        unticked = await visitor.post(f"{CRM}/replay", position="1")
        assert unticked.status_code == 400
        assert "Tick the box" in unticked.text
        assert "2 changes after position 1" in unticked.text, "what was typed stays"
        for wrong in ("4", "-1", "x", "9" * 30):
            refused = await visitor.post(f"{CRM}/replay", position=wrong, confirmed="true")
            assert (refused.status_code, "Position: " in refused.text) == (400, True)
        assert (await service.get("/v1/feed/consumers/crm")).json()["data"]["position"] == 3
        done = await visitor.post(f"{CRM}/replay", position="1", confirmed="true")
        assert (done.status_code, done.headers["location"]) == (303, f"{CRM}?done=replayed")
        assert (await service.get("/v1/feed/consumers/crm")).json()["data"]["position"] == 1


async def test_a_consumer_is_paused_resumed_and_forgotten(service: httpx.AsyncClient) -> None:
    visitor = await sign_in(service)
    await service.put("/v1/feed/consumers/crm", json={"position": 0})
    assert (await visitor.post(f"{CRM}/pause")).status_code == 303
    assert "Paused since" in await visitor.read(CRM)
    assert (await service.get("/v1/feed", params={"consumer": "crm"})).status_code == 503
    assert (await visitor.post(f"{CRM}/resume")).status_code == 303
    assert "Paused since" not in await visitor.read(CRM)
    assert (await visitor.post(f"{CRM}/forget")).status_code == 400
    assert (await visitor.post(f"{CRM}/forget", confirmed="other")).status_code == 400
    gone = await visitor.post(f"{CRM}/forget", confirmed="crm")
    assert gone.headers["location"] == f"{PAGE}?done=forgotten"
    assert (await visitor.get(CRM)).status_code == 404


async def test_every_action_needs_the_token_and_the_permission(start_service: StartService, database: Database) -> None:
    feed = await Keys(database).create("job", ("feed",), None)
    reader = await Keys(database).create("reader", ("read",), None)
    async with start_service() as service:
        await service.put("/v1/feed/consumers/crm", json={"position": 0})
        job, other = await sign_in(service, feed.key), await sign_in(service, reader.key)
        page = await job.read(PAGE)
        assert "bi_reader" not in page, "what needs the permission read is left out"
        assert (await job.read(CRM)).count("Forget it") == 1
        for action in ("pause", "resume", "replay", "forget"):
            assert (await job.post_without_token(f"{CRM}/{action}", confirmed="crm")).status_code == 403
            assert (await other.post(f"{CRM}/{action}", confirmed="crm")).status_code == 403
        for path in (PAGE, f"{PAGE}/live", CRM):
            denied = await other.get(path)
            assert denied.status_code == 403
            assert "permission “feed”" in denied.text
            stranger = await Visitor(service.base_url).get(path)
            assert stranger.status_code == 303
        assert (await service.get("/v1/feed/consumers/crm")).json()["data"]["paused_at"] is None


async def test_names_and_tags_from_outside_are_escaped(service: httpx.AsyncClient) -> None:
    visitor = await sign_in(service)
    tag = '"><script>alert(1)</script>'
    await service.put("/v1/feed/consumers/crm", json={"position": 0, "tag": tag})
    page = await visitor.read(CRM)
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    for name in ("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "no%20such", "nobody"):
        answer = await visitor.get(f"{PAGE}/consumers/{name}")
        assert answer.status_code in {400, 404}
        assert "<script>alert" not in answer.text
    page = (await visitor.get(f"{CRM}?from=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")).text
    assert "<script>alert" not in page

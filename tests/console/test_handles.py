"""A form leads on to a page, so that Back and Reload ask nothing; what no address may show goes along encrypted."""

import base64

import httpx

from service.access.sessions import Session
from service.console.handles import LIFETIME_SECONDS, make_handle, read_handle
from service.telemetry.context import SETTING
from tests.console.visiting import sign_in
from tests.factories import BEGAN, phone_of, store_batch

PATH = "/console/people"
BATCH = "/console/batches/456"
PHONE = phone_of(1)


def make_session(csrf_token: str = "token") -> Session:
    return Session(1, SETTING, ("admin",), csrf_token, "admin", BEGAN)


def test_a_handle_is_worth_something_in_its_session_on_its_page_and_for_ten_minutes() -> None:
    session, start = make_session(), 1000.0
    handle = make_handle(session, PATH, f"phone:{PHONE}", lambda: start)

    def read(session: Session = session, path: str = PATH, text: str = handle, seconds: float = 0) -> str | None:
        return read_handle(session, path, text, lambda: start + seconds)

    assert read() == f"phone:{PHONE}"
    assert read(seconds=LIFETIME_SECONDS) is None
    assert read(session=make_session("of another session")) is None
    assert read(path=f"{PATH}/1") is None
    for text in ("", "x", handle[:-2], f"{handle}.{handle}", handle * 20, "é", "a.b.c.d.e"):
        assert read(text=text) is None, text


def test_a_handle_shows_nobody() -> None:
    handle = make_handle(make_session(), PATH, f"phone:{PHONE}")
    read = handle + "".join(str(base64.urlsafe_b64decode(f"{part}===")) for part in handle.split("."))
    assert PHONE[1:] not in read


async def test_a_search_leads_to_a_page_of_this_session_alone(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    visitor, other = await sign_in(service), await sign_in(service)
    led = await visitor.post(PATH, by="phone", text=PHONE)
    address = led.headers["location"]
    assert (led.status_code, PHONE[1:] in address) == (303, False)
    for _ in range(2):
        assert "456/people/1" in (await visitor.get(address)).text, "the page may be loaded again"
    over = await other.read(address)
    assert ("This search is over" in over, PHONE in over) == (True, False)
    searches = (await service.get("/v1/audit", params={"action": "people_found"})).json()["data"]
    assert len(searches) == 2
    wrong = await visitor.follow(PATH, by="phone", text="12")
    assert (wrong.status_code, 'value="12"' in wrong.text) == (400, True)
    for fields in ({"by": "x", "text": "1"}, {"by": "name", "text": "x" * 501}):
        assert (await visitor.post(PATH, **fields)).status_code == 400


async def test_a_click_reveals_the_view_that_was_clicked_and_no_other(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    visitor = await sign_in(service)
    led = await visitor.post(f"{BATCH}/people?max_attempts=0")
    address = led.headers["location"]
    assert PHONE in (await visitor.get(address)).text
    handle = address.partition("handle=")[2]
    for view in (f"{BATCH}/people?handle={handle}", f"{BATCH}/people?max_attempts=1&handle={handle}"):
        assert PHONE not in await visitor.read(view)
    assert PHONE not in await visitor.read(f"{BATCH}/people/1?handle={handle}")
    revealed = (await service.get("/v1/audit", params={"action": "person_revealed"})).json()["data"]
    assert len(revealed) == 10

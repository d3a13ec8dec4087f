"""The parts of Health: each shows what the API answers, changes only what was ticked, and escapes what comes from
outside."""

import html
import re

import httpx
import pytest

from service.access.keys import Keys
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import sign_in
from tests.eventually import eventually
from tests.factories import encode, make_payload, post_webhook, store_batch
from tests.webhooks.quarantining import quarantine

PAGE = "/console/health"
PARTS = (
    PAGE, f"{PAGE}/live", f"{PAGE}/webhooks", f"{PAGE}/webhooks/live", f"{PAGE}/provider", f"{PAGE}/provider/live",
    f"{PAGE}/quarantine", f"{PAGE}/unattributed", f"{PAGE}/keys", f"{PAGE}/sessions", f"{PAGE}/audit",
    f"{PAGE}/erasures", f"{PAGE}/retention", f"{PAGE}/doctor", f"{PAGE}/doctor/report",
)  # fmt: skip
EVIL = '"><script>alert(1)</script>\u202e\u200f' + "x" * 10_000


async def test_each_part_is_an_address_of_its_own_for_admins_alone(
    start_service: StartService, database: Database
) -> None:
    made = await Keys(database).create("others", ("read", "feed"), None)
    uploads = await Keys(database).create("uploads", ("upload",), None)
    async with start_service() as service:
        admin, other = await sign_in(service), await sign_in(service, made.key)
        for path in PARTS:
            page = await admin.read(path)
            assert len(page) < 100_000
            denied = await other.get(path)
            assert (denied.status_code, "permission “admin”" in denied.text) == (403, True)
        assert 'aria-current="page">Keys' in await admin.read(f"{PAGE}/keys")
        uploader = await sign_in(service, uploads.key)
        suppressions = await uploader.read(f"{PAGE}/suppressions")
        assert f'href="{PAGE}/keys"' not in suppressions
        assert (await other.get(f"{PAGE}/suppressions")).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "quarantine/replay",
        "quarantine/1/replay",
        "keys",
        "keys/1/revoke",
        "sessions/1/revoke",
        "unattributed/1",
        "erasures",
        "suppressions",
    ],
)
async def test_every_action_needs_the_token_and_the_permission(
    start_service: StartService, database: Database, path: str
) -> None:
    made = await Keys(database).create("others", ("read", "feed"), None)
    async with start_service() as service:
        admin, other = await sign_in(service), await sign_in(service, made.key)
        fields = {"confirmed": "true", "name": "new", "scopes": "read", "days": "30", "phone": "+919876543210"}
        assert (await admin.post_without_token(f"{PAGE}/{path}", **fields)).status_code == 403
        assert (await other.post(f"{PAGE}/{path}", **fields)).status_code == 403
        lines = (await service.get("/v1/audit")).json()["data"]
        assert {line["action"] for line in lines} == {"key_created", "signed_in"}, "nothing was done"


async def test_an_alarm_says_what_to_do_and_where_and_goes_away(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    async with start_service() as service:
        visitor = await sign_in(service)
        assert "Nothing is wrong" in await visitor.read(PAGE)
        await quarantine(database, encode(make_payload(recipient=1)))
        alarm = await eventually(lambda: visitor.read(f"{PAGE}/live"), lambda page: "quarantine_not_empty" in page)
        for words in ("Look into it", "What to do", "Ends when", "All of them have been replayed"):
            assert words in alarm
        assert f'href="{PAGE}/quarantine"' in alarm
        done = await visitor.post(f"{PAGE}/quarantine/replay")
        assert done.headers["location"] == f"{PAGE}/quarantine?replayed=1&kept=0"
        await eventually(lambda: visitor.read(f"{PAGE}/live"), lambda page: "Nothing is wrong" in page)


async def test_webhooks_are_shown_by_answer_in_words(start_service: StartService, database: Database) -> None:
    await store_batch(database.url)
    async with start_service() as service:
        visitor = await sign_in(service)
        assert "No webhook in the last hour" in await visitor.read(f"{PAGE}/webhooks")
        assert (await post_webhook(service, make_payload())).status_code == 204
        assert (await post_webhook(service, make_payload(), secret="wrong")).status_code == 401
        page = await eventually(
            lambda: visitor.read(f"{PAGE}/webhooks/live"), lambda page: "Wrong signature" in page and "Stored" in page
        )
        assert "2 requests" in page


async def test_a_quarantined_body_is_shown_raw_and_harmless_and_stays_if_it_cannot_be_used(
    service: httpx.AsyncClient, database: Database
) -> None:
    visitor = await sign_in(service)
    body = b"\xff\x00" + EVIL.encode() + b"\n" + b"z" * 40_000
    quarantine_id = await quarantine(database, body)
    await database.pool.execute("UPDATE quarantine SET event_id = $1, detail = $1", EVIL[:400])
    page = await visitor.read(f"{PAGE}/quarantine/{quarantine_id}")
    assert "<script>alert" not in page
    assert r"\xff\x00" in page
    assert r"\u202e\u200f" in page
    assert "the first 32,768 are shown" in page
    listed = await visitor.read(f"{PAGE}/quarantine")
    assert "<script>alert" not in listed
    assert (await visitor.get(f"{PAGE}/quarantine/{quarantine_id}/body")).content == body
    kept = await visitor.post(f"{PAGE}/quarantine/{quarantine_id}/replay")
    assert kept.headers["location"] == f"{PAGE}/quarantine?replayed=0&kept=1"
    assert "still cannot be used" in await visitor.read(kept.headers["location"])
    for unknown in ("999", "x", "%3Cscript%3E"):
        assert (await visitor.get(f"{PAGE}/quarantine/{unknown}")).status_code == 404


async def test_unattributed_events_are_explained_and_their_people_masked(service: httpx.AsyncClient) -> None:
    visitor = await sign_in(service)
    payload = make_payload(recipient=None, agent_id=9, phone="+919876543210", event_id="<b>evil</b>")
    assert (await post_webhook(service, payload)).status_code == 204
    page = await visitor.read(f"{PAGE}/unattributed")
    assert "No batch of the agent has this person waiting" in page
    assert "/v1/batch-calls/BATCH/recipients" in page
    assert "+91*******210" in page
    assert "9876543210" not in page
    assert "<b>evil</b>" not in page
    assert html.escape("<b>evil</b>") in page


async def test_a_key_is_made_shown_once_and_revoked_once_ticked(service: httpx.AsyncClient) -> None:
    visitor = await sign_in(service)
    wrong = await visitor.post(f"{PAGE}/keys", name="<i>x", scopes="read", days="30")
    assert (wrong.status_code, 'value="&lt;i&gt;x"' in wrong.text) == (400, True)
    assert re.search(r'value="read" checked', wrong.text)
    assert (await visitor.post(f"{PAGE}/keys", name="crm", days="30")).status_code == 400
    assert (await visitor.post(f"{PAGE}/keys", name="crm", scopes="read", days="7")).status_code == 400
    made = await visitor.post(f"{PAGE}/keys", name="crm", scopes=["read", "feed"], days="90")
    assert made.status_code == 200
    (key,) = re.findall(r"outcomes_[A-Za-z0-9_-]{40,}", made.text)
    assert made.headers["cache-control"] == "no-store"
    again = await visitor.post(f"{PAGE}/keys", name="crm", scopes="read", days="90")
    assert again.status_code == 409
    page = await visitor.read(f"{PAGE}/keys")
    assert key not in page
    assert "feed, read" in page
    assert (await visitor.post(f"{PAGE}/keys/1/revoke")).status_code == 400
    assert (await visitor.post(f"{PAGE}/keys/1/revoke", confirmed="true")).status_code == 303
    assert "Revoked and expired" in await visitor.read(f"{PAGE}/keys")
    lines = (await service.get("/v1/audit")).json()["data"]
    assert [line["action"] for line in lines] == ["key_revoked", "key_created", "signed_in"]


async def test_the_audit_log_is_filtered_and_paged_by_address(service: httpx.AsyncClient, database: Database) -> None:
    visitor = await sign_in(service)
    assert "session 1" in await visitor.read(f"{PAGE}/audit")
    await database.pool.execute(
        """INSERT INTO audit_log (actor, action, subject, outcome, details)
        SELECT 'key: <b>evil</b>', 'upload', 'upload ' || n, 'uploaded', '{"name": "<b>evil</b>"}'
        FROM generate_series(1, 60) AS n"""
    )
    page = await visitor.read(f"{PAGE}/audit")
    assert "<b>evil</b>" not in page
    assert (page.count(">upload 60<"), page.count(">upload 10<")) == (1, 0)
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older is not None
    assert ">upload 10<" in await visitor.read(html.unescape(older[1]))
    assert "No line matches" in await visitor.read(f"{PAGE}/audit?action=erasure")
    assert ">upload 60<" in await visitor.read(f"{PAGE}/audit?action=upload&actor=key:%20%3Cb%3Eevil%3C/b%3E")


async def test_a_person_is_erased_once_what_goes_was_shown_and_ticked(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    phone: str = await database.pool.fetchval("SELECT phone FROM recipients WHERE recipient_no = 1")
    async with start_service() as service:
        visitor = await sign_in(service)
        wrong = await visitor.follow(f"{PAGE}/erasures", phone='1"><b>')
        assert (wrong.status_code, 'value="1&#34;&gt;&lt;b&gt;"' in wrong.text) == (400, True)
        counted = await visitor.follow(f"{PAGE}/erasures", phone=phone)
        assert counted.status_code == 200
        assert "This person is erased for good, in 1 place" in counted.text
        assert (await service.get("/v1/erasures")).json()["data"] == []
        done = await visitor.post(f"{PAGE}/erasures", phone=phone, confirmed="true")
        assert done.headers["location"] == f"{PAGE}/erasures/1"
        page = await eventually(
            lambda: visitor.read(f"{PAGE}/erasures/1/live"), lambda page: "The person is erased" in page
        )
        assert phone not in page
        listed = await visitor.read(f"{PAGE}/erasures")
        assert f'href="{PAGE}/erasures/1"' in listed
        assert phone not in listed
        assert (await visitor.get(f"{PAGE}/erasures/99")).status_code == 404


async def test_people_are_suppressed_looked_up_and_removed_without_a_phone_in_any_address(
    service: httpx.AsyncClient,
) -> None:
    visitor, path, phone = await sign_in(service), f"{PAGE}/suppressions", "+919876543210"
    assert "Nobody is on the list" in await visitor.read(path)
    for fields in ({"action": "add", "phone": phone}, {"action": "add", "phone": "12", "reason": "x"}, {"action": "y"}):
        assert (await visitor.post(path, **fields)).status_code == 400
    added = await visitor.post(path, action="add", phone=f"{phone}\r\n\r\n+919876543211", reason="<b>asked</b>")
    assert added.headers["location"] == f"{path}?added=2&known=0&waiting=0"
    page = await visitor.read(path)
    assert "<b>asked</b>" not in page
    assert phone not in page
    assert "On the list since" in (await visitor.follow(path, action="find", phone=phone)).text
    assert "Not on the list" in (await visitor.follow(path, action="find", phone="+919876543299")).text
    removed = await visitor.post(path, action="remove", phone=phone, reason="asked again")
    assert removed.headers["location"] == f"{path}?removed=1"
    assert "Not on the list" in (await visitor.follow(path, action="find", phone=phone)).text
    assert (await visitor.post(path, action="remove", phone=phone, reason="again")).status_code == 404


async def test_the_doctors_page_is_there_at_once_and_its_report_follows(service: httpx.AsyncClient) -> None:
    visitor = await sign_in(service)
    page = await visitor.read(f"{PAGE}/doctor")
    assert f'hx-get="{PAGE}/doctor/report"' in page
    report = await visitor.get(f"{PAGE}/doctor/report", is_fragment=True)
    assert "<html" not in report.text
    assert "database.commit" in report.text
    assert "<html" in await visitor.read(f"{PAGE}/doctor/report")


async def test_retention_names_its_settings(start_service: StartService) -> None:
    async with start_service(OUTCOMES_KEEP_BODIES_DAYS="90") as service:
        page = await (await sign_in(service)).read(f"{PAGE}/retention")
    assert "90 days" in page
    assert "OUTCOMES_KEEP_BODIES_DAYS" in page

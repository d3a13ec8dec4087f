"""Sessions in Health: who is signed in, which session is one's own, and ending one."""

import html

import httpx

from service.store.database import Database
from tests.console.visiting import Visitor, sign_in

PAGE = "/console/health/sessions"
EVIL = '"><script>alert(1)</script>\u202e' + "x" * 300


async def test_sessions_name_their_people_and_mark_ones_own(service: httpx.AsyncClient, database: Database) -> None:
    visitor = await sign_in(service)
    await database.pool.execute(
        """WITH person AS (
            INSERT INTO console_users (issuer, subject, name, first_seen_at, last_signed_in_at)
            VALUES ('', 's-1', $1, now(), now()) RETURNING user_id
        )
        INSERT INTO console_sessions (token_digest, user_id, scopes, opened_at, last_seen_at, expires_at)
        SELECT '\\x00', user_id, '{read}', now(), now(), now() + interval '1 day' FROM person""",
        EVIL,
    )
    page = await visitor.read(PAGE)
    assert "<script>alert" not in page
    assert html.escape("<script>alert(1)</script>") in page
    assert "user: 1" in page
    assert page.count("Your session") == 1
    rows = page[page.index("<tbody") :].split("</tr>")
    assert ["Your session" in row for row in rows[:2]] == ["The key in OUTCOMES_API_KEY" in row for row in rows[:2]]
    assert 'aria-current="page">Sessions' in page


async def test_a_session_is_ended_once_that_is_ticked(service: httpx.AsyncClient, database: Database) -> None:
    admin, other = await sign_in(service), await sign_in(service)
    session_id = await database.pool.fetchval("SELECT max(session_id) FROM console_sessions")
    path = f"{PAGE}/{session_id}/revoke"
    refused = await admin.post(path)
    assert (refused.status_code, "Tick the box" in refused.text) == (400, True)
    assert (await admin.post_without_token(path, confirmed="true")).status_code == 403
    assert (await other.get("/console")).status_code == 200
    done = await admin.post(path, confirmed="true")
    assert (done.status_code, done.headers["location"]) == (303, f"{PAGE}?done=revoked")
    assert "The session is ended" in await admin.read(done.headers["location"])
    assert (await other.get("/console")).status_code == 303
    assert (await admin.post(path, confirmed="true")).status_code == 404


async def test_ending_ones_own_session_leads_to_signing_in(service: httpx.AsyncClient, database: Database) -> None:
    visitor: Visitor = await sign_in(service)
    session_id = await database.pool.fetchval("SELECT max(session_id) FROM console_sessions")
    done = await visitor.post(f"{PAGE}/{session_id}/revoke", confirmed="true")
    after = await visitor.get(done.headers["location"])
    assert (after.status_code, after.headers["location"].startswith("/console/sign-in")) == (303, True)

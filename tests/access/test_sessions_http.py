"""Sessions over HTTP: an admin sees who is signed in, and ends a session."""

import httpx

from service.access.keys import Keys
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import sign_in
from tests.eventually import eventually

PATH = "/v1/sessions"


async def test_an_admin_lists_sessions_by_page_and_ends_one(start_service: StartService, database: Database) -> None:
    made = await Keys(database).create("desk", ("read", "people"), None)
    async with start_service() as service:
        own, other = await sign_in(service), await sign_in(service, made.key)
        first = (await service.get(PATH, params={"limit": 1})).json()
        rows = [*first["data"], *(await service.get(PATH, params={"after": first["next"]})).json()["data"]]
        assert [(row["actor"], row["name"], row["issuer"], row["scopes"]) for row in rows] == [
            ("key: desk", "Key desk", None, ["people", "read"]),
            ("setting", "The key in OUTCOMES_API_KEY", None, ["read", "upload", "feed", "people", "admin"]),
        ]
        assert all(row["opened_at"] <= row["last_seen_at"] < row["expires_at"] for row in rows)
        assert (await other.get("/console")).status_code == 200
        session_id = rows[0]["session_id"]
        assert (await service.delete(f"{PATH}/{session_id}")).status_code == 204
        assert (await other.get("/console")).status_code == 303, "the person is signed out at once"
        assert (await own.get("/console")).status_code == 200
        assert (await service.delete(f"{PATH}/{session_id}")).status_code == 404
        assert [row["actor"] for row in (await service.get(PATH)).json()["data"]] == ["setting"]
        lines = (await service.get("/v1/audit", params={"action": "session_revoked"})).json()["data"]
        assert [(line["actor"], line["subject"]) for line in lines] == [("setting", f"session {session_id}")]


async def test_a_page_that_lost_its_sessions_leads_on(start_service: StartService, database: Database) -> None:
    made = await Keys(database).create("gone", ("read",), None)
    async with start_service() as service:
        await sign_in(service)
        await sign_in(service, made.key)
        await Keys(database).revoke("gone")

        async def read() -> httpx.Response:
            return await service.get(PATH, params={"limit": 1})

        page = (await eventually(read, lambda answer: answer.json()["data"] == [])).json()
        assert page["has_more"]
        rest = (await service.get(PATH, params={"limit": 1, "after": page["next"]})).json()
        assert ([row["actor"] for row in rest["data"]], rest["next"]) == (["setting"], None)


async def test_sessions_are_for_admins_alone(start_service: StartService, database: Database) -> None:
    made = await Keys(database).create("others", ("read", "upload", "feed", "people"), None)
    async with start_service() as service:
        bearer = {"authorization": f"Bearer {made.key}"}
        assert (await service.get(PATH, headers=bearer)).status_code == 403
        assert (await service.delete(f"{PATH}/1", headers=bearer)).status_code == 403
        assert (await service.delete(f"{PATH}/x")).status_code == 404

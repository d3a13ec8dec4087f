"""API keys over HTTP: made and shown once, listed without secrets, revoked; and never above their maker."""

import httpx
import pytest

from service.access.keys import Keys
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually


async def test_a_key_is_shown_once_works_and_is_refused_once_revoked(service: httpx.AsyncClient) -> None:
    made = await service.post("/v1/keys", json={"name": "crm", "scopes": ["feed"], "expires_in_days": 90})
    assert made.status_code == 201
    key = made.json()["data"]
    assert key["key"].startswith(key["hint"])
    listed = (await service.get("/v1/keys")).json()["data"]
    assert [(each["name"], each["scopes"], each["is_live"]) for each in listed] == [("crm", ["feed"], True)]
    assert key["key"] not in (await service.get("/v1/keys")).text
    bearer = {"authorization": f"Bearer {key['key']}"}

    async def ask() -> int:
        return (await service.get("/v1/feed", headers=bearer)).status_code

    await eventually(ask, lambda status: status == 200)
    assert (await service.get("/v1/batch-calls", headers=bearer)).status_code == 403
    assert (await service.delete(f"/v1/keys/{key['key_id']}")).status_code == 204
    await eventually(ask, lambda status: status == 401)
    assert (await service.delete(f"/v1/keys/{key['key_id']}")).status_code == 404
    assert [each["is_live"] for each in (await service.get("/v1/keys")).json()["data"]] == [False]
    actions = [(line["actor"], line["action"]) for line in (await service.get("/v1/audit")).json()["data"]]
    assert actions == [("setting", "key_revoked"), ("setting", "key_created")]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "scopes": ["root"]}, "scopes"),
        ({"name": "<script>", "scopes": ["read"]}, "name"),
        ({"name": "a", "scopes": ["read"], "expires_in_days": 0}, "expires_in_days"),
        ({"name": "a", "scopes": ["read"], "expires": 3}, "expires"),
    ],
)
async def test_an_unusable_key_is_refused_by_field(
    service: httpx.AsyncClient, content: dict[str, object], named: str
) -> None:
    answer = await service.post("/v1/keys", json=content)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]
    assert (await service.get("/v1/keys")).json()["data"] == []


async def test_a_name_is_taken_once(service: httpx.AsyncClient) -> None:
    content = {"name": "crm", "scopes": ["read"]}
    assert (await service.post("/v1/keys", json=content)).status_code == 201
    assert (await service.post("/v1/keys", json=content)).status_code == 409


async def test_only_an_admins_key_makes_keys(start_service: StartService, database: Database) -> None:
    made = await Keys(database).create("reader", ("read", "upload", "feed"), None)
    async with start_service() as service:
        bearer = {"authorization": f"Bearer {made.key}"}
        for scope in ("read", "admin"):
            answer = await service.post("/v1/keys", json={"name": "more", "scopes": [scope]}, headers=bearer)
            assert answer.status_code == 403
        assert (await service.get("/v1/keys", headers=bearer)).status_code == 403
        assert (await service.delete("/v1/keys/1", headers=bearer)).status_code == 403

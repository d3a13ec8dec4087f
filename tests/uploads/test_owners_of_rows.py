"""The rows that an upload left out are given to the key that made it, and to those who may see people."""

import httpx
import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.provider import connect_provider, upload

FILE = "name,customer_phone,note\nAsha,+919876543210,a\nRavi,98765,a\nAsha,+919876543210,again\n"


async def make_key(service: httpx.AsyncClient, name: str, *scopes: str) -> dict[str, str]:
    made = (await service.post("/v1/keys", json={"name": name, "scopes": scopes})).json()["data"]
    header = {"authorization": f"Bearer {made['key']}"}

    async def ask() -> int:
        return (await service.get("/v1/uploads/999/evidence", headers=header)).status_code

    await eventually(ask, lambda status: status != 401)
    return header


@pytest.mark.parametrize("name", ["rejected.csv", "duplicates.csv"])
async def test_rows_are_given_to_the_key_that_made_the_upload_and_to_people(
    start_service: StartService, database: Database, name: str
) -> None:
    async with connect_provider(start_service) as (service, _):
        own = await make_key(service, "own", "upload")
        other = await make_key(service, "other", "upload", "read", "feed")
        people = await make_key(service, "people", "upload", "people")
        data = {"agent_id": "123", "name": "March", "invalid": "skip", "duplicates": "first"}
        files = {"file": ("contacts.csv", FILE)}
        made = (await service.post("/v1/batch-call", data=data, files=files, headers=own)).json()["data"]
        path = f"/v1/uploads/{made['upload_id']}/{name}"
        assert [(await service.get(path, headers=one)).status_code for one in (own, people)] == [200, 200]
        refused = await service.get(path, headers=other)
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
        assert "given to the key that made it" in refused.json()["error"]["message"]
        unknown = await service.get(f"/v1/uploads/999/{name}", headers=other)
        assert (unknown.status_code, unknown.json()["error"]["message"]) == (403, refused.json()["error"]["message"])
        await database.pool.execute("UPDATE upload_reports SET actor = NULL")  # an upload of an earlier version
        assert [(await service.get(path, headers=one)).status_code for one in (own, people)] == [403, 200]


async def test_a_key_of_the_same_name_is_another_key(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        first = await make_key(service, "same", "upload")
        made = (await upload(service, FILE, invalid="skip", duplicates="first")).json()["data"]
        path = f"/v1/uploads/{made['upload_id']}/rejected.csv"
        assert (await service.get(path, headers=first)).status_code == 403
        keys = (await service.get("/v1/keys")).json()["data"]
        data = {"agent_id": "123", "name": "Own", "invalid": "skip", "duplicates": "first", "force": "true"}
        files = {"file": ("contacts.csv", FILE)}
        made = (await service.post("/v1/batch-call", data=data, files=files, headers=first)).json()["data"]
        await service.delete(f"/v1/keys/{keys[0]['key_id']}")
        second = await make_key(service, "same", "upload")
        refused = await service.get(f"/v1/uploads/{made['upload_id']}/rejected.csv", headers=second)
        assert refused.status_code == 403

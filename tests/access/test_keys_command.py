"""``outcomes keys``: a key is shown once, works with its scopes, is listed without itself, and can be revoked."""

import hashlib
import re

from service.store.database import Database
from tests.conftest import StartService
from tests.processes import OUTCOMES, Finished, run


async def run_keys(url: str, *arguments: str) -> Finished:
    return await run(OUTCOMES, "keys", *arguments, OUTCOMES_DATABASE_URL=url)


async def test_a_key_is_printed_once_and_stored_nowhere(
    database_url: str, database: Database, start_service: StartService
) -> None:
    made = await run_keys(
        database_url, "create", "crm sync", "--scope", "feed", "--scope", "read", "--expires-in", "90d"
    )
    assert made.status == 0
    key = made.output.strip()
    assert re.fullmatch(r"outcomes_[A-Za-z0-9_-]{43}", key)  # 43 characters of base64 are 256 bits
    (row,) = await database.pool.fetch("SELECT *, expires_at - created_at AS lifetime FROM api_keys")
    assert row["digest"] == hashlib.sha256(key.encode()).digest()
    assert (row["scopes"], row["lifetime"].days) == (["feed", "read"], 90)
    listed = await run_keys(database_url, "list")
    assert "crm sync" in listed.output
    for text in (str(dict(row)), listed.output, made.errors):
        assert key not in text
    async with start_service() as client:
        answer = await client.get("/v1/batch-calls", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200


async def test_two_keys_share_nothing_but_their_beginning(database_url: str) -> None:
    one, another = [(await run_keys(database_url, "create", name)).output.strip() for name in ("one", "another")]
    assert one[9:21] != another[9:21]


async def test_a_key_is_revoked_by_name_or_id_and_its_name_is_free_again(database_url: str, database: Database) -> None:
    for name_or_id in ("dashboard", "2"):
        assert (await run_keys(database_url, "create", "dashboard")).status == 0
        assert (await run_keys(database_url, "revoke", name_or_id)).status == 0
    assert await database.pool.fetchval("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == 0
    again = await run_keys(database_url, "revoke", "dashboard")
    assert again.status == 2
    assert "no key 'dashboard' to revoke" in again.errors


async def test_what_cannot_be_used_is_refused_by_name(database_url: str) -> None:
    assert (await run_keys(database_url, "create", "taken")).status == 0
    for arguments, expected in (
        (("create", "taken"), "already"),
        (("create", ""), "name: takes"),
        (("create", "7"), "digits alone"),
        (("create", "new", "--expires-in", "soon"), "--expires-in takes"),
        (("create", "new", "--expires-in", "0d"), "--expires-in takes"),
        (("create", "new", "--scope", "everything"), "'everything' is not one of"),
    ):
        done = await run_keys(database_url, *arguments)
        assert done.status == 2, arguments
        assert expected in done.errors
        assert done.output == ""


async def test_changes_of_keys_stand_in_the_audit_log(database_url: str, start_service: StartService) -> None:
    await run_keys(database_url, "create", "dashboard")
    await run_keys(database_url, "revoke", "dashboard")
    async with start_service() as client:
        first = (await client.get("/v1/audit?limit=1")).json()
        rest = (await client.get(f"/v1/audit?after={first['next']}")).json()
    lines = [*first["data"], *rest["data"]]
    assert [(line["actor"], line["action"], line["subject"], line["outcome"]) for line in lines] == [
        ("command line", "key_revoked", "key 1", "revoked"),
        ("command line", "key_created", "key 1", "created"),
    ]
    assert (first["has_more"], rest["has_more"], rest["next"]) == (True, False, None)

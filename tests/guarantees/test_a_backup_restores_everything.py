"""A backup made while webhooks arrive restores everything: ledger, counters, feed positions, keys and audit log; and
erased people stay erased."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.store.database import Database, find_sql_folder, open_database
from service.store.migrations import read_migrations
from tests.conftest import StartService, create_database, drop_database, make_starter
from tests.factories import make_payload, phone_of, post_webhook, store_batch
from tests.feed.feeding import read_on
from tests.guarantees.backups import back_up, read_manifest, restore, run_script
from tests.guarantees.checker import Checker
from tests.guarantees.erasing import PHONE, SECRETS, check_sound, fill, make_webhook
from tests.guarantees.whole_database import find_everywhere
from tests.postgres import PostgresServer, find_programs
from tests.processes import OUTCOMES, run, serve

RECIPIENTS = 50_000
BURST = 300
ENTRIES = (
    "SELECT batch_key, recipient_no, position, version, state FROM outcomes WHERE position <= $1 ORDER BY position"
)


@pytest.fixture
async def new_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """An empty database to restore into."""
    url = await create_database(postgres, "template0")
    yield url
    await drop_database(postgres, url)


async def fetch(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


@pytest.mark.timeout(300)  # each script starts several processes
async def test_a_backup_made_while_webhooks_arrive_restores_everything(
    start_service: StartService, database_url: str, new_url: str, tmp_path: Path, checker: Checker
) -> None:
    await store_batch(database_url, RECIPIENTS)
    key = (await run(OUTCOMES, "keys", "create", "crm", "--scope", "feed", OUTCOMES_DATABASE_URL=database_url)).output
    async with start_service() as service:
        await checker.load([service], BURST)
        await service.put("/v1/feed/consumers/crm", json={"position": 7})
        backing_up = asyncio.create_task(back_up(database_url, tmp_path))
        while not backing_up.done():
            await checker.load([service], BURST)
        await checker.load([service], BURST)  # not in the backup
        read = (await read_on(service, limit=1000))[-1]["position"]
    backup, audit = await backing_up, await fetch(database_url, "SELECT action FROM audit_log")
    manifest = read_manifest(backup)
    end = int(manifest["feed_end"])
    assert BURST <= end < read
    assert int(manifest["events"]) < len(checker.acknowledged) == read
    await restore(backup, new_url)

    assert len(await fetch(new_url, "SELECT event_id FROM events")) == int(manifest["events"])
    assert await fetch(new_url, ENTRIES, end) == await fetch(database_url, ENTRIES, end)
    assert await fetch(new_url, "SELECT max(position) FROM outcomes") == [(end,)]
    assert (await fetch(new_url, "SELECT action FROM audit_log"))[: len(audit)] == audit
    async with make_starter(new_url)() as service:
        # A reader of restored entries continues; a reader that had read further gets an error from then on.
        assert [entry["position"] for entry in await read_on(service, end - 2)] == [end - 1, end]
        crm = {"authorization": f"Bearer {key.strip()}"}
        for params in ({"after": read}, {"after": end + 1}, {"consumer": "crm"}):
            refused = await service.get("/v1/feed", params=params, headers=crm)
            assert (refused.status_code, "gone" in refused.text) == (409, True), refused.text
        # Events in the backup are not counted twice; later ones are accepted as new.
        checker.refused, checker.acknowledged = checker.acknowledged, set()
        await checker.send_again(service)
        assert (await service.get("/v1/feed", params={"after": read})).status_code == 409
        after = [entry["position"] for entry in await read_on(service, end)]
        assert len(after) == len(checker.acknowledged) - end
        assert min(after) > read + 10**9
        reset = await service.put("/v1/feed/consumers/crm", json={"position": 0, "reset": True}, headers=crm)
        assert reset.json()["data"]["lag"] <= len(checker.acknowledged)
        assert len(await read_on(service, limit=1000)) == len(checker.acknowledged)
    await checker.check(new_url)


@pytest.mark.timeout(300)
async def test_erased_people_stay_erased_even_if_the_erasure_came_after_the_backup(
    start_service: StartService, database: Database, postgres: PostgresServer, tmp_path: Path
) -> None:
    async with start_service() as service:
        await fill(service, database)
        early = await back_up(database.url, tmp_path, NAME="early")
        assert (await service.post("/v1/erasures", json={"phone": PHONE})).status_code == 200
        late = await back_up(database.url, tmp_path, NAME="late")
    listed = await run(OUTCOMES, "erasures", "list", OUTCOMES_DATABASE_URL=database.url)
    assert (listed.status, len(listed.output.splitlines()), PHONE[1:] in listed.output) == (0, 3, False)
    (tmp_path / "erasures.csv").write_text(listed.output)

    found = {}
    for backup, erasures in ((early, "none"), (early, tmp_path / "erasures.csv"), (late, "none")):
        url = await create_database(postgres, "template0")
        await restore(backup, url, erasures)
        async with make_starter(url)() as service, open_database(url, allow_unsafe=False) as restored:
            if erasures != "none" or backup == late:
                for payload in (
                    make_webhook(attempt=9, event_id="late"),
                    make_webhook(attempt=1, event_id="first"),
                    make_webhook(recipient=None, phone=PHONE, event_id="late stray", agent_id=99),
                ):
                    assert (await post_webhook(service, payload)).status_code == 204
            found[backup.name, str(erasures)[-4:]] = {
                secret for _, _, secret in await find_everywhere(restored, *SECRETS)
            }
            await check_sound(restored)
        await drop_database(postgres, url)
    assert found == {
        ("outcomes-early", "none"): set(SECRETS),
        ("outcomes-early", ".csv"): set(),
        ("outcomes-late", "none"): set(),
    }


async def test_a_list_of_erasures_of_other_people_is_refused_and_erases_nothing(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    await store_batch(database.url)
    good = (await run(OUTCOMES, "erasures", "list", OUTCOMES_DATABASE_URL=database.url)).output
    for text in ("", good.replace(good.split()[5], "0" * 16), good + "zz,2026-01-01T00:00:00+00:00\n",
                 good + "00,never\n", good + "00,2026-01-01T00:00:00\n", good + "00\n"):  # fmt: skip
        (tmp_path / "list").write_text(text)
        refused = await run(OUTCOMES, "erasures", "repeat", str(tmp_path / "list"), OUTCOMES_DATABASE_URL=database.url)
        assert (refused.status, "outcomes erasures list" in refused.errors) == (2, True), (text, refused)
    assert await fetch(database.url, "SELECT FROM erased_phones") == []


async def test_a_restore_keeps_grants_and_asks_for_missing_roles(
    database_url: str, new_url: str, tmp_path: Path
) -> None:
    role = f"serving_{urlsplit(new_url).path[1:]}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    await owner.execute(f"SELECT grant_service('{role}')")
    await store_batch(database_url)
    backup = await back_up(database_url, tmp_path)
    assert role in read_manifest(backup)["roles"].split()
    await owner.execute(f"DROP OWNED BY {role}")
    await owner.execute(f"DROP ROLE {role}")
    refused = await run_script("restore.sh", backup, url=new_url, ERASURES="none")
    assert (refused.status, f'CREATE ROLE "{role}" first' in refused.errors) == (2, True), refused
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    await restore(backup, new_url)
    served = new_url.replace("//postgres@", f"//{role}@")
    async with serve(OUTCOMES_DATABASE_URL=served, OUTCOMES_MIGRATE_ON_START="0") as serving:
        assert (await post_webhook(serving.client, make_payload())).status_code == 204
        assert (await serving.client.post("/v1/erasures", json={"phone": phone_of(1)})).status_code == 200
    for forbidden in ("CREATE TABLE mine (id int)", "DELETE FROM audit_log", "SELECT key FROM erasure_key"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await fetch(served, forbidden)
    restored = await asyncpg.connect(new_url)
    await restored.execute(f"DROP OWNED BY {role}")
    await restored.close()
    await owner.execute(f"DROP ROLE {role}")
    await owner.close()


async def test_a_backup_of_an_older_schema_is_migrated_to_this_version(
    database_url: str, new_url: str, tmp_path: Path
) -> None:
    await store_batch(database_url)
    async with make_starter(database_url)() as service:
        await post_webhook(service, make_payload())
    newest = read_migrations()[-1].name
    _, _, down = (find_sql_folder() / "migrations" / f"{newest}.sql").read_text().partition("-- migrate:down\n")
    older = await asyncpg.connect(database_url)
    await older.execute(down)
    await older.execute("DELETE FROM schema_migrations WHERE version = $1", newest[:4])
    await older.close()
    backup = await back_up(database_url, tmp_path)
    assert read_manifest(backup)["schema"] < newest[:4]
    await restore(backup, new_url)
    assert await fetch(new_url, "SELECT max(version) FROM schema_migrations") == [(newest[:4],)]
    async with make_starter(new_url)(OUTCOMES_MIGRATE_ON_START="0") as service:
        for recipient in (2, 3, 4):
            await post_webhook(service, make_payload(recipient=recipient))
        assert (await service.get("/v1/feed", params={"after": 2})).status_code == 409


async def test_a_backup_is_complete_or_absent_and_replaces_no_other(database_url: str, tmp_path: Path) -> None:
    backup = await back_up(database_url, tmp_path, NAME="one")
    before = (backup / "MANIFEST").read_bytes()
    for status, why, folder, settings in (
        (2, "already exists", tmp_path, {"NAME": "one"}),
        (2, "KEEP takes a number", tmp_path, {"KEEP": "all"}),
        (2, "is not a folder", tmp_path / "nowhere", {}),
        (2, "without slashes", tmp_path, {"NAME": "../one"}),
    ):
        refused = await run_script("backup.sh", folder, url=database_url, **settings)
        assert (refused.status, why in refused.errors) == (status, True), refused
    failed = await run_script("backup.sh", tmp_path, url=database_url.replace("test_", "no_such_"))
    assert (failed.status, "does not answer" in failed.errors) == (1, True), failed
    broken = tmp_path / "programs"
    broken.mkdir()
    (broken / "psql").symlink_to(find_programs() / "psql")
    (broken / "pg_dump").symlink_to("/bin/false")
    failed = await run_script("backup.sh", tmp_path, url=database_url, PG_BIN=str(broken))
    assert (failed.status, "pg_dump failed" in failed.errors) == (1, True), failed
    assert {path.name for path in tmp_path.iterdir()} == {"outcomes-one", "programs"}
    assert (backup / "MANIFEST").read_bytes() == before


async def test_old_backups_are_removed_only_on_request(database_url: str, tmp_path: Path) -> None:
    names = [f"outcomes-2026010{day}T000000Z" for day in range(1, 5)]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "outcomes-mine").mkdir()
    new = await back_up(database_url, tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    shutil.rmtree(new)
    done = await run_script("backup.sh", tmp_path, url=database_url, KEEP="3")
    assert done.status == 0
    kept = {*names[2:], "outcomes-mine", done.output.strip().rpartition("/")[2]}
    assert {path.name for path in tmp_path.iterdir()} == kept


async def test_a_restore_that_would_go_wrong_is_refused(database_url: str, new_url: str, tmp_path: Path) -> None:
    backup = await back_up(database_url, tmp_path)
    for status, why, settings in (
        (2, "the database is not empty", {"url": database_url, "ERASURES": "none"}),
        (2, "set ERASURES", {"url": new_url}),
        (2, "does not exist", {"url": new_url, "ERASURES": "nowhere"}),
        (1, "does not answer", {"url": new_url.replace("test_", "no_such_"), "ERASURES": "none"}),
    ):
        refused = await run_script("restore.sh", backup, **settings)
        assert (refused.status, why in refused.errors) == (status, True), refused
    manifest = backup / "MANIFEST"
    text = manifest.read_text()
    for changed, why in ((text.replace("events 0", "events 1"), "number of events"),
                         (text.replace("feed_end 0", "feed_end 5"), "end of the feed")):  # fmt: skip
        manifest.write_text(changed)
        connection = await asyncpg.connect(new_url)
        await connection.execute("DROP SCHEMA IF EXISTS bi, bi_full, public CASCADE")
        await connection.execute("CREATE SCHEMA public")
        await connection.close()
        refused = await run_script("restore.sh", backup, url=new_url, ERASURES="none")
        assert (refused.status, why in refused.errors) == (1, True), refused
    with (backup / "database.dump").open("r+b") as dump:
        dump.seek(100)
        dump.write(b"\xff")
    manifest.write_text(text)
    refused = await run_script("restore.sh", backup, url=new_url, ERASURES="none")
    assert (refused.status, "changed since it was written" in refused.errors) == (1, True), refused
    manifest.unlink()
    refused = await run_script("restore.sh", backup, url=new_url, ERASURES="none")
    assert (refused.status, "not a complete backup" in refused.errors) == (2, True), refused

"""A run of ``outcomes verify`` reads what has changed since the last one, and continues what was stopped."""

import asyncio

import asyncpg
import pytest

from service.formant.events import EventDecoder
from service.formant.targets import load_targets
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Discrepancy, Verifier
from service.webhooks.verification_runs import VerificationRun
from tests.conftest import SECRET
from tests.eventually import eventually
from tests.factories import AGENT_ID, decode, make_payload, phone_of, store_batch
from tests.processes import OUTCOMES, run, start
from tests.webhooks.ingesting import ingest

BATCHES = 3
END_BLOCKED = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO verifications%'
"""
BLOCKED = END_BLOCKED.replace("pg_terminate_backend(pid, 10000)", "count(*)")


@pytest.fixture
async def keys(database: Database) -> list[int]:
    """Batches of an agent each, with one call each."""
    keys = []
    for number in range(BATCHES):
        key = await store_batch(
            database.url, batch_id=500 + number, ref_token=f"token{number}", agent_id=AGENT_ID + number
        )
        await call(database, number, 1)
        keys.append(key)
    return keys


async def call(database: Database, number: int, recipient: int) -> None:
    """A call to a recipient of a batch."""
    payload = make_payload(
        recipient=recipient, phone=phone_of(recipient), agent_id=AGENT_ID + number, ref_token=f"token{number}",
        event_id=f"{number}-{recipient}", conversation_id=f"{number}-{recipient}",
    )  # fmt: skip
    await ingest(database, *decode(payload))


async def verify(database: Database, *, is_full: bool = False) -> tuple[set[int], list[Discrepancy]]:
    """The batches that a run verified, and what it found."""
    bodies = BodyCheck(load_targets((SECRET,), allow_unsigned=False, path=None))
    verifier = Verifier(database, EventDecoder("outcome_ref"), bodies)
    verification = VerificationRun(database, verifier, is_full=is_full)
    findings = [finding async for finding in verification.verify()]
    return verification.batches, findings


async def test_only_batches_that_have_changed_are_verified_again(database: Database, keys: list[int]) -> None:
    assert await verify(database) == (set(keys), [])
    assert await verify(database) == (set(), [])
    await call(database, 1, 2)
    assert await verify(database) == ({keys[1]}, [])
    assert await verify(database) == (set(), [])
    assert await verify(database, is_full=True) == (set(keys), [])


async def test_a_batch_with_a_difference_is_verified_until_it_is_repaired(database: Database, keys: list[int]) -> None:
    await database.pool.execute("UPDATE outcome_counts SET recipients = 9 WHERE batch_key = $1", keys[1])
    assert [finding.batch_key for finding in (await verify(database))[1]] == [keys[1]]
    for is_full in (False, True):
        batches, findings = await verify(database, is_full=is_full)
        assert keys[1] in batches
        assert [finding.what for finding in findings] == ["outcome_counts"]
    assert [batch async for batch in Rebuilder(database).rebuild(501)]
    assert await verify(database) == ({keys[1]}, [])
    assert await verify(database) == (set(), [])


async def test_what_no_event_has_changed_is_found_in_the_sample_or_by_a_full_run(
    database: Database, keys: list[int]
) -> None:
    await call(database, 9, 1)  # fits no batch
    await verify(database)
    await database.pool.execute("UPDATE event_bodies SET body = set_byte(body, 20, 65)")
    batches, findings = await verify(database)
    assert (batches, sorted(finding.what for finding in findings)) == (set(), ["body"] * (BATCHES + 1))
    await database.pool.execute("UPDATE outcomes SET attempts = 99 WHERE batch_key = $1", keys[0])
    assert {finding.what for finding in (await verify(database))[1]} == {"body"}, "counters that nothing has changed"
    assert {finding.what for finding in (await verify(database, is_full=True))[1]} == {"body", "outcome"}


async def test_a_full_run_that_was_killed_is_continued(database: Database, keys: list[int]) -> None:
    blocker = await asyncpg.connect(database.url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("INSERT INTO verifications VALUES ($1, 0, 0, NULL, now())", keys[1])
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    process = await start(OUTCOMES, "verify", "--full", settings=settings, stderr=asyncio.subprocess.DEVNULL)
    await eventually(lambda: database.pool.fetchval(BLOCKED))
    process.kill()
    await process.wait()
    await database.pool.execute(END_BLOCKED)  # or it would go on without its client
    await transaction.rollback()
    await blocker.close()
    assert await verify(database, is_full=True) == (set(keys[1:]), [])
    assert await verify(database, is_full=True) == (set(keys), []), "the next one starts over"


async def test_the_command_takes_one_batch_or_all_of_them(database: Database, keys: list[int]) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database.url}
    both = await run(OUTCOMES, "verify", "--full", "--batch", "500", **settings)
    assert (both.status, "give one of them" in both.errors) == (2, True)
    assert (await run(OUTCOMES, "verify", "--batch", "500", **settings)).status == 0
    usual = await run(OUTCOMES, "verify", **settings)
    assert (usual.status, f"Verified {BATCHES} batches and a sample" in usual.output) == (0, True)
    full = await run(OUTCOMES, "verify", "--full", **settings)
    assert (full.status, f"Verified {BATCHES} batches and everything else" in full.output) == (0, True)

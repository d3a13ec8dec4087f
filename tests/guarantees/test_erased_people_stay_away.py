"""While an erased recipient is not final, later calls of the batch count for them, and no personal data is kept."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.formant.client import FormantClient
from service.privacy.erasure import Eraser
from service.reconciliation.healer import HealedBatch, Healer, Progress
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.factories import AGENT_ID, decode, make_payload, store_batch
from tests.guarantees.recount import find_differences
from tests.guarantees.whole_database import find_everywhere
from tests.webhooks.ingesting import get_event, ingest

PHONE, DIGITS = "+917000000001", "7000000001"  # the first recipient of the batch
NAME, LOAN, SAID, CALL = "Rahul-the-customer", "LN-secret-77", "i-lost-my-job", "conversation-of-rahul"
SECRETS = (DIGITS, NAME, LOAN, SAID, CALL)
PARAMETERS = {"customer_name": NAME, "loan_id": LOAN}
BEGAN = datetime.now(UTC) - timedelta(hours=2)  # the start of the batch, before erasures and retries
SOON = timedelta(minutes=10)


def call(
    attempt: int | None, *, at: datetime, final: bool, phone: str | None = PHONE, **changed: Any
) -> dict[str, Any]:
    """A webhook of a call to the person, without a reference."""
    payload = make_payload(
        recipient=None, attempt=attempt, began=at, final=final, status="completed" if final else "no_answer",
        phone=phone, parameters=PARAMETERS, results={"said": SAID}, conversation_id=f"{CALL}_{attempt}",
    )  # fmt: skip
    payload["data"]["call"].update(changed)
    return payload


async def store_window(database: Database) -> int:
    """Stores a batch from the provider's dashboard, whose file is unknown."""
    key: int = await database.pool.fetchval(
        "INSERT INTO batches (batch_id, agent_id, name, upload_state, columns, origin, is_registered, created_at, "
        "prepared_at) VALUES (900, $1, '', 'uploaded', '{}', 'provider', false, $2, $2) RETURNING batch_key",
        AGENT_ID, BEGAN,
    )  # fmt: skip
    return key


async def store_registered(database: Database) -> int:
    """Stores a batch uploaded without references."""
    key = await store_batch(database.url, 3, ref_token=None, prepared_at=BEGAN)
    parameters = json.dumps(PARAMETERS)
    await database.pool.execute("UPDATE recipients SET parameters = $1 WHERE recipient_no = 1", parameters)
    return key


@pytest.fixture(params=[store_window, store_registered], ids=["window", "registered"])
async def batch_key(request: pytest.FixtureRequest, database: Database) -> int:
    """A batch without references in which the person was called once, waits for a retry, and is then erased."""
    key: int = await request.param(database)
    await ingest(database, *decode(call(1, at=BEGAN + SOON, final=False)))
    await erase(database)
    return key


async def erase(database: Database) -> None:
    eraser = Eraser(database)
    assert (await eraser.finish(await eraser.begin(PHONE)))["state"] == "done"
    assert await find_everywhere(database, *SECRETS) == []


async def check_gone(database: Database, *, attempts: int) -> None:
    """Checks that no data of the person is stored, and that ``attempts`` calls count for their one recipient."""
    assert await find_everywhere(database, *SECRETS) == []
    rows = await database.pool.fetch("SELECT state, attempts FROM outcomes")
    assert [tuple(row) for row in rows] == [("erased", attempts)]
    assert await database.pool.fetchval("SELECT count(*) FROM recipients WHERE phone IS NULL") == 1
    assert await database.pool.fetchval("SELECT count(*) FROM unattributed") == 0
    async with database.pool.acquire() as connection:
        assert await find_differences(connection) == []


@pytest.mark.parametrize("said", [PHONE, PHONE[1:], "0091 70000-00001", "tel:+917000000001;ext=1"])
async def test_a_retry_after_the_erasure_counts_for_the_erased_recipient(
    database: Database, batch_key: int, said: str
) -> None:
    del batch_key
    retry = call(2, at=datetime.now(UTC) + SOON, final=True, to_phone=said)
    await ingest(database, *decode(retry))
    await ingest(database, *decode(retry))
    await check_gone(database, attempts=2)
    assert (await get_event(database, retry["event_id"]))["disposition"] == "applied"


async def test_several_retries_after_the_erasure_count_for_the_erased_recipient(
    database: Database, batch_key: int
) -> None:
    del batch_key
    later = datetime.now(UTC) + SOON
    calls = [call(n, at=later + n * SOON, final=n == 4) for n in (2, 3, 4)]
    await ingest(database, *decode(calls[2], calls[0]))  # in the wrong order
    await ingest(database, *decode(calls[1]))
    await check_gone(database, attempts=4)


async def test_a_retry_counts_for_an_erased_recipient_without_known_attempts(database: Database) -> None:
    await store_registered(database)
    await erase(database)
    await ingest(database, *decode(call(1, at=datetime.now(UTC) + SOON, final=True)))
    await check_gone(database, attempts=1)


async def test_a_call_after_the_final_one_does_not_count_for_the_erased_recipient(database: Database) -> None:
    await store_registered(database)
    await ingest(database, *decode(call(1, at=BEGAN + SOON, final=True)))
    await erase(database)
    later = call(None, at=datetime.now(UTC) + SOON, final=True)
    await ingest(database, *decode(later))
    assert (await get_event(database, later["event_id"]))["reason"] == "no_batch"
    assert await database.pool.fetchval("SELECT attempts FROM outcomes") == 1


async def test_a_call_counts_for_the_person_uploaded_again_after_the_erasure(database: Database) -> None:
    await store_registered(database)
    await ingest(database, *decode(call(1, at=BEGAN + SOON, final=True)))
    await erase(database)
    await store_batch(database.url, 2, batch_id=457, ref_token=None, prepared_at=datetime.now(UTC))
    later = call(1, at=datetime.now(UTC) + SOON, final=True, call_parameters={"loan_id": "LN-1"})
    await ingest(database, *decode(later))
    event = await get_event(database, later["event_id"])
    assert (event["batch_id"], event["recipient"]) == (457, 1)


async def test_a_call_that_fits_two_erased_recipients_counts_for_neither_and_nothing_is_kept(
    database: Database,
) -> None:
    await store_registered(database)
    await store_batch(database.url, 1, batch_id=457, ref_token=None, prepared_at=BEGAN)
    await erase(database)
    retry = call(1, at=datetime.now(UTC) + SOON, final=True)
    await ingest(database, *decode(retry))
    assert await find_everywhere(database, *SECRETS) == []
    assert (await get_event(database, retry["event_id"]))["disposition"] == "erased"


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    made = Writer(database.url, database.queries, Metrics())
    yield made
    made.close()


@pytest.mark.parametrize("said", [PHONE, PHONE[1:]])
async def test_a_healed_retry_counts_for_the_erased_recipient(
    database: Database, batch_key: int, writer: Writer, said: str
) -> None:
    began = round((datetime.now(UTC) + SOON).timestamp() * 1000)
    record = {
        "agent_id": AGENT_ID, "contact_number": said, "conversation_id": f"{CALL}_2", "duration_seconds": 30,
        "start_timestamp": began, "end_timestamp": began + 30_000, "status": "completed", "results": {"said": SAID},
    }  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        whole = {"data": record} if request.url.path.endswith("_2") else {"data": [record], "has_more": False}
        return httpx.Response(200, json=whole)

    async def save(progress: Progress) -> None:
        del progress

    batch = HealedBatch(batch_key, AGENT_ID, BEGAN, may_retry=True)
    healer = Healer(database, writer, Metrics(), lambda: datetime.now(UTC))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="https://provider.test") as http:
        progress = await healer.walk(FormantClient(http, Metrics()), batch, Progress(), save, set())
        again = await healer.walk(FormantClient(http, Metrics()), batch, Progress(), save, set())
    assert (progress.healed, again.healed) == (1, 0)
    await check_gone(database, attempts=2)


@pytest.mark.parametrize("to_phone", [None, "", "unknown"])
@pytest.mark.parametrize("said", [PHONE, "917000000001", "70000 00001", "07000000001", "tel:+91-7000-000-001"])
async def test_a_call_that_names_the_person_only_in_its_parameters_counts_for_them(
    database: Database, batch_key: int, writer: Writer, to_phone: str | None, said: str
) -> None:
    del batch_key
    parameters = {**PARAMETERS, "mobile": said}
    retry = call(2, at=datetime.now(UTC) + SOON, final=True, to_phone=to_phone, call_parameters=parameters)
    await writer.write(decode(retry))
    await check_gone(database, attempts=2)
    assert (await get_event(database, retry["event_id"]))["disposition"] == "applied"


async def test_a_call_without_a_phone_to_another_person_still_waits(
    database: Database, batch_key: int, writer: Writer
) -> None:
    del batch_key
    parameters = {"mobile": "+917000000002", "loan": "1111111111"}
    other = call(1, at=datetime.now(UTC) + SOON, final=True, to_phone=None, call_parameters=parameters)
    await writer.write(decode(other))
    assert (await get_event(database, other["event_id"]))["reason"] == "no_batch"

"""Rules of agents: a person who says in a call that they must not be called again is suppressed, once, and stays so."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import ConfigurationError
from service.formant.opt_outs import OptOuts
from service.formant.targets import load_opt_outs
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.writer import Writer
from tests.conftest import StartService
from tests.factories import AGENT_ID, BEGAN, decode, make_payload, phone_of, post_webhook, store_batch
from tests.suppressions.listing import list_suppressions
from tests.webhooks.ingesting import heal

RULES = OptOuts({AGENT_ID: {"intent": ["do_not_call", "Wrong number"], "opted_out": [True]}})
REFUSED = {"intent": "do_not_call"}


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    made = Writer(database.url, database.queries, Metrics(), RULES)
    yield made
    made.close()


async def find(database: Database, phone: str) -> dict[str, Any] | None:
    row = await database.queries.get_suppression(database.pool, phone=phone)
    return None if row is None else dict(row)


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (REFUSED, "results.intent = do_not_call"),
        ({"intent": " Do_Not_Call "}, "results.intent = do_not_call"),
        ({"intent": ["interested", "WRONG NUMBER"]}, "results.intent = wrong number"),
        ({"intent": "interested", "opted_out": True}, "results.opted_out = true"),
        ({"intent": "interested", "opted_out": "true"}, "results.opted_out = true"),
        ({"intent": "interested", "opted_out": False}, None),
        ({"intent": "do_not_call_me"}, None),
        ({"Intent": "do_not_call"}, None),
        ({"intent": {"value": "do_not_call"}}, None),
        ({"intent": None}, None),
        ({}, None),
        ("do_not_call", None),
        ({"intent": "do_not_call", "note": "\ud800\u0000"}, "results.intent = do_not_call"),
    ],
)
async def test_a_result_that_matches_a_rule_suppresses_the_person(
    database: Database, writer: Writer, results: Any, reason: str | None
) -> None:
    await writer.write(decode(make_payload(recipient=None, phone=phone_of(1), results=results)))
    found = await find(database, phone_of(1))
    assert (found and found["reason"]) == reason
    if found:
        assert (found["source"], found["agent_id"], found["actor"]) == ("outcome", AGENT_ID, "service")


async def test_agents_without_a_rule_suppress_nobody(database: Database, writer: Writer) -> None:
    await writer.write(decode(make_payload(results=REFUSED, agent_id=AGENT_ID + 1)))
    assert await database.pool.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_the_same_call_suppresses_once_however_often_it_is_reported(database: Database, writer: Writer) -> None:
    await store_batch(database.url, recipients=3)
    events = decode(make_payload(recipient=1, results=REFUSED), make_payload(recipient=1, attempt=2, results=REFUSED))
    for group in ([events[0]], [events[0], events[1]], [heal(results=REFUSED, began=BEGAN)]):
        await writer.write(group)
    (line,) = await database.pool.fetch("SELECT actor, subject, details FROM audit_log WHERE action = 'suppression'")
    assert line["actor"] == "service"
    assert line["subject"].startswith("person ")
    assert await database.pool.fetchval("SELECT count(*) FROM suppressions") == 1


async def test_a_healed_call_suppresses_like_a_webhook(database: Database, writer: Writer) -> None:
    await store_batch(database.url, recipients=3)
    await writer.write([heal(results=REFUSED, status="completed")])
    assert await find(database, phone_of(1)) is not None


async def test_later_results_do_not_lift_it(database: Database, writer: Writer) -> None:
    await store_batch(database.url, recipients=3)
    await writer.write(decode(make_payload(recipient=1, results=REFUSED)))
    later = decode(make_payload(recipient=1, attempt=2, results={"intent": "interested"}))
    await writer.write(later)
    assert await find(database, phone_of(1)) is not None


async def test_an_event_without_a_phone_suppresses_the_person_whom_its_reference_names(
    database: Database, writer: Writer
) -> None:
    await store_batch(database.url, recipients=3)
    payload = make_payload(recipient=2, results=REFUSED)
    payload["data"]["call"]["to_phone"] = None
    await writer.write(decode(payload))
    assert await find(database, phone_of(2)) is not None


async def test_where_phone_and_reference_name_different_people_both_are_suppressed(
    database: Database, writer: Writer
) -> None:
    await store_batch(database.url, recipients=3)
    await writer.write(decode(make_payload(recipient=2, phone=phone_of(9), results=REFUSED)))
    assert await find(database, phone_of(2)) is not None
    assert await find(database, phone_of(9)) is not None


async def test_whom_somebody_removed_only_a_later_call_suppresses_again(database: Database, writer: Writer) -> None:
    call = make_payload(recipient=None, phone=phone_of(1), results=REFUSED)
    await writer.write(decode(call))
    await database.queries.lift_suppression(
        database.pool, phone=phone_of(1), reason="asked again", actor="me", key_id=None, request_id=None
    )
    await writer.write(decode(call))
    await writer.write([heal(results=REFUSED, began=BEGAN + timedelta(hours=1))])
    assert await find(database, phone_of(1)) is None
    now = await database.pool.fetchval("SELECT clock_timestamp()")
    later = heal(results=REFUSED, conversation_id="c-2", began=now)
    await writer.write([later._replace(received_at=now + timedelta(minutes=1))])
    assert await find(database, phone_of(1)) is not None


async def test_rows_of_waiting_uploads_are_marked_when_the_person_is_suppressed(
    database: Database, writer: Writer
) -> None:
    await store_batch(database.url, recipients=3)
    for state, marked in (("uploaded", 0), ("held", 1)):
        await database.pool.execute("UPDATE batches SET upload_state = $1", state)
        await writer.write(decode(make_payload(recipient=None, phone=phone_of(3), results=REFUSED)))
        assert await database.pool.fetchval("SELECT count(*) FROM suppressed_recipients") == marked


async def test_a_rule_in_the_targets_file_holds_for_webhooks(start_service: StartService, tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(f'[agents.{AGENT_ID}]\nsuppress_when = {{ intent = "do_not_call" }}\n')
    async with start_service(OUTCOMES_TARGETS_FILE=str(path)) as service:
        assert (await post_webhook(service, make_payload(results=REFUSED))).status_code == 204
        (row,) = await list_suppressions(service)
        assert (row["source"], row["reason"], row["agent_id"]) == ("outcome", "results.intent = do_not_call", AGENT_ID)
        text = (await service.get("/metrics")).text
        assert "outcomes_learned_suppressions_total 1.0" in text


async def test_without_a_rule_the_results_of_calls_suppress_nobody(service: httpx.AsyncClient) -> None:
    assert (await post_webhook(service, make_payload(results=REFUSED))).status_code == 204
    assert await list_suppressions(service) == []


@pytest.mark.parametrize(
    "text",
    [
        "[agents.india]\nsuppress_when = { intent = 'x' }",
        "[agents.123]\nsuppress_when = { intent = [] }",
        "[agents.123]\nsuppress_when = { intent = { a = 1 } }",
        "[agents.123]\nsuppress_if = { intent = 'x' }",
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="OUTCOMES_TARGETS_FILE"):
        load_opt_outs(path)


class StoppedBeforeIngest:
    """The queries of a service that is killed once, after the suppression and before the event is committed."""

    def __init__(self, queries: Any) -> None:
        self._queries = queries
        self._is_stopped = False

    def __getattr__(self, name: str) -> Any:
        if name == "ingest" and not self._is_stopped:
            self._is_stopped = True
            raise ConnectionError("killed")
        return getattr(self._queries, name)


async def test_a_crash_before_the_event_is_committed_loses_and_doubles_nothing(
    database: Database, database_url: str
) -> None:
    await store_batch(database_url, recipients=3)
    writer = Writer(database_url, StoppedBeforeIngest(database.queries), Metrics(), RULES)
    events = decode(make_payload(recipient=1, results=REFUSED))
    with pytest.raises(ConnectionError):
        await writer.write(events)
    assert await database.pool.fetchval("SELECT count(*) FROM facts") == 0  # not acknowledged, so it comes again
    await writer.write(events)
    writer.close()
    assert await database.pool.fetchval("SELECT count(*) FROM facts") == 1
    assert await find(database, phone_of(1)) is not None
    assert await database.pool.fetchval("SELECT count(*) FROM audit_log WHERE action = 'suppression'") == 1

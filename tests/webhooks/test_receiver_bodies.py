"""Whatever a live secret signed is acknowledged and kept byte for byte: in the ledger if usable, else in quarantine."""

import json
from typing import Any

import httpx
import pytest

from service.store.database import Database
from tests.exposition import read_metric
from tests.factories import encode, make_payload, post_webhook, store_batch

DEEP = 10_000
NESTED = "[" * DEEP + "]" * DEEP
MANY_DIGITS = "9" * 400


def change(event_id: str, path: str, text: str | bytes | None, recipient: int = 1) -> bytes:
    """An event with ``text`` as the JSON in the place that ``path`` names, also as a new field; None leaves it out."""
    payload = make_payload(recipient=recipient, event_id=event_id)
    *parents, last = path.split(".")
    place: dict[str, Any] = payload
    for name in parents:
        place = place[name]
    place[last] = "@@@"
    if text is None:
        del place[last]
        return encode(payload)
    return encode(payload).replace(b'"@@@"', text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


async def find_bodies(database: Database, body: bytes) -> list[str]:
    """Where this very body is kept."""
    rows = await database.pool.fetch(
        """
        SELECT 'ledger' AS place FROM event_bodies WHERE body = $1
        UNION ALL
        SELECT 'quarantine: ' || reason FROM quarantine WHERE body = $1
        """,
        body,
    )
    return [row["place"] for row in rows]


USABLE: dict[str, tuple[str, str | bytes | None]] = {
    "a NUL in the results": ("data.results", r'{"intent": "a\u0000b"}'),
    "a NUL in a key": ("data.results", r'{"in\u0000tent": "a"}'),
    "a lone surrogate, escaped": ("data.results", r'{"intent": "\ud800"}'),
    "a lone surrogate, in raw bytes": ("data.results", '{"intent": "\ud800"}'),
    "a NUL in the failure reason": ("data.call.failure_reason", r'"\u0000"'),
    "bytes that are no UTF-8": ("data.transcript", b'"\xff\xfe"'),
    "results that are no UTF-8": ("data.results", b'{"intent": "\xff"}'),
    "NaN among the results": ("data.results", '{"score": NaN}'),
    "an infinite duration": ("data.call.duration_seconds", "-Infinity"),
    "a duration of 400 digits": ("data.call.duration_seconds", MANY_DIGITS),
    "an attempt of 400 digits": ("data.retry.attempt_number", MANY_DIGITS),
    "an amount of 400 digits": ("data.results", f'{{"amount": {MANY_DIGITS}}}'),
    "no results": ("data.results", None),
    "no retry block": ("data.retry", None),
    "no timestamp": ("timestamp", None),
    "retry null": ("data.retry", "null"),
    "retry of another kind": ("data.retry", "[1]"),
    "results of another kind": ("data.results", '"none"'),
    "a field twice": ("data.results", '{}, "results": {"intent": "later"}'),
    "fields that nobody knows": ("data.call.shoe_size", '{"eu": [44, null]}'),
    "a time that is none": ("data.call.started_at", '"yesterday"'),
    "a time in year 1": ("data.call.started_at", '"0001-01-01T00:00:00+14:00"'),
    "a time after all": ("data.call.started_at", '"9999-12-31T23:59:59-14:00"'),
}


async def test_an_odd_body_that_names_its_call_is_counted_and_kept_as_it_came(
    service: httpx.AsyncClient, database: Database, database_url: str, subtests: pytest.Subtests
) -> None:
    await store_batch(database_url, len(USABLE) + 1)
    bodies = {name: change(name, *case, recipient=number) for number, (name, case) in enumerate(USABLE.items(), 1)}
    bodies["a byte order mark"] = b"\xef\xbb\xbf" + encode(
        make_payload(event_id="a byte order mark", recipient=len(USABLE) + 1)
    )
    for number, (name, body) in enumerate(bodies.items(), 1):
        with subtests.test(name):
            assert (await post_webhook(service, body)).status_code == 204
            event = (await service.get(f"/v1/events/{name}")).json()["data"]
            assert (event["disposition"], event["recipient"]) == ("applied", number)
            assert await find_bodies(database, body) == ["ledger"]
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"]["processed"] == len(bodies)


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"event_id=odd", "not_json"),
    "JSON cut short": (encode(make_payload())[:-1], "not_json"),
    "nothing": (b"", "not_json"),
    "zeros": (b"\x00" * 64, "not_json"),
    "a list": (b"[]", "not_an_object"),
    "a text": (b'"odd"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "NaN": (b"NaN", "not_an_object"),
    "a number of 400 digits": (MANY_DIGITS.encode(), "not_an_object"),
    "10,000 levels and nothing else": (NESTED.encode(), "too_deep"),
    "no data": (b'{"event_id": "odd", "event_type": "call.completed"}', "missing_field"),
    "data that is null": (change("odd", "data", "null"), "missing_field"),
    "no event_id": (change("odd", "event_id", None), "missing_field"),
    "an event_id that is null": (change("odd", "event_id", "null"), "missing_field"),
    "an empty event_id": (change("odd", "event_id", '""'), "unusable_field"),
    "an endless event_id": (change("odd", "event_id", f'"{"x" * 201}"'), "unusable_field"),
    "no conversation": (change("odd", "data.call.conversation_id", None), "missing_field"),
    "an unknown type": (change("odd", "event_type", '"call.teleported"'), "unknown_event_type"),
    "a type that is none of calls": (change("odd", "event_type", '"completed"'), "unknown_event_type"),
}


async def test_a_body_that_cannot_be_used_is_acknowledged_and_waits_whole_in_quarantine(
    service: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    for name, (body, reason) in UNREADABLE.items():
        with subtests.test(name):
            for _ in range(2):
                assert (await post_webhook(service, body)).status_code == 204
            assert await find_bodies(database, body) == [f"quarantine: {reason}"]
    waiting = (await service.get("/v1/quarantine")).json()["data"]
    assert [row["deliveries"] for row in waiting] == [2] * len(UNREADABLE)
    assert await database.pool.fetchval("SELECT count(*) FROM events") == 0
    requests = 2 * len(UNREADABLE)
    assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="stored") == requests
    assert await read_metric(service, "outcomes_events_total", disposition="quarantined") == requests


# What is too deep, or too large for Postgres, may be read or not: nothing may be lost either way.
EXTREME = {
    "results 10,000 levels deep": ("data.results", NESTED),
    "objects 10,000 levels deep": ("data.results", '{"a":' * DEEP + "1" + "}" * DEEP),
    "parameters 10,000 levels deep": ("data.call.call_parameters", NESTED),
    "an unknown field 10,000 levels deep": ("data.extra", NESTED),
    "a number beyond all numbers": ("data.results", '{"amount": 1e999999999}'),
    "5,000 digits": ("data.results", f'{{"amount": {"9" * 5000}}}'),
    "a phone of a million characters": ("data.call.to_phone", f'"{"1" * 2**20}"'),
    "a result's name of a million characters": ("data.results", f'{{"{"n" * 2**20}": 1}}'),
    "20,000 results": ("data.results", json.dumps({f"n{n}": n for n in range(20_000)})),
}


async def test_an_extreme_body_is_kept_in_the_ledger_or_in_quarantine_and_the_next_event_is_counted(
    service: httpx.AsyncClient, database: Database, database_url: str, subtests: pytest.Subtests
) -> None:
    await store_batch(database_url, len(EXTREME) + 1)
    kept = []
    for number, (name, case) in enumerate(EXTREME.items(), 1):
        body = change(name, *case, recipient=number)
        with subtests.test(name):
            assert (await post_webhook(service, body, **{"X-FormantAI-Event-Id": name})).status_code == 204
            places = await find_bodies(database, body)
            assert len(places) == 1
            event = (await service.get(f"/v1/events/{name}")).json()["data"]
            assert (event["disposition"] == "quarantined") == places[0].startswith("quarantine")
            kept.append(event["disposition"])
    assert (await post_webhook(service, make_payload(recipient=len(EXTREME) + 1))).status_code == 204
    outcomes = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
    assert outcomes["recipients"]["processed"] == kept.count("applied") + 1
    assert set(kept) > {"quarantined"}


async def test_the_event_id_of_the_header_finds_a_body_without_one(service: httpx.AsyncClient) -> None:
    assert (await post_webhook(service, b"no JSON", **{"X-FormantAI-Event-Id": "named-by-header"})).status_code == 204
    event = (await service.get("/v1/events/named-by-header")).json()["data"]
    assert (event["disposition"], event["reason"]) == ("quarantined", "not_json")


async def test_the_header_never_names_an_event_that_names_itself(service: httpx.AsyncClient) -> None:
    await post_webhook(service, make_payload(event_id="in-the-body"), **{"X-FormantAI-Event-Id": "in-the-header"})
    assert (await service.get("/v1/events/in-the-body")).status_code == 200
    assert (await service.get("/v1/events/in-the-header")).status_code == 404

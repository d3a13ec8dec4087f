"""People are found across batches by phone, parameter and name, and what happened to one is shown with the events
behind it; only with the scope ``people``, and each look in the audit log."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.access.keys import Keys
from service.outcomes.goals import Subject, set_goal
from service.store.database import Database
from tests.console.visiting import sign_in
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, decode, encode, make_payload, phone_of, post_webhook, store_batch
from tests.webhooks.ingesting import ingest

PEOPLE = [
    {"loan_id": "LN-1", "Customer Name": "Asha Sharma"},
    {"loan_id": "LN-2", "customer_name": "Ravi O'Brien"},
    {"loan_id": "3", "firstName": "José", "lastName": "Ñandú"},
    {"loan_id": 4, "name": "Li Wei"},
]


async def store_people(database: Database) -> None:
    """Four people in two batches, with the same parameters in both."""
    for batch_id, ref_token in ((BATCH_ID, "feedc0de"), (457, "second")):
        key = await store_batch(database.url, len(PEOPLE), batch_id=batch_id, ref_token=ref_token)
        for number, parameters in enumerate(PEOPLE, 1):
            await database.pool.execute(
                "UPDATE recipients SET parameters = $3 WHERE batch_key = $1 AND recipient_no = $2",
                key, number, json.dumps(parameters),
            )  # fmt: skip


async def find(service: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await service.get("/v1/people", params=params)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def read_timeline(service: httpx.AsyncClient, phone: str, **params: Any) -> list[dict[str, Any]]:
    answer = await service.get("/v1/people/timeline", params={"phone": phone} | params)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


@pytest.mark.parametrize("spelling", [phone_of(1), f"00{phone_of(1)[1:]}", f"+91 {phone_of(1)[3:8]}-{phone_of(1)[8:]}"])
async def test_a_person_is_found_by_phone_in_any_spelling_with_the_recipients_of_all_batches(
    service: httpx.AsyncClient, database: Database, spelling: str
) -> None:
    await store_people(database)
    await ingest(database, *decode(make_payload(recipient=1, status="no_answer", final=False)))
    (person,) = await find(service, phone=spelling)
    assert (person["phone"], person["recipient_count"], person["suppression"]) == (phone_of(1), 2, None)
    assert [(one["batch_id"], one["recipient"], one["state"], one["attempts"]) for one in person["recipients"]] == [
        (457, 1, "in_progress", 0), (BATCH_ID, 1, "pending_retry", 1),
    ]  # fmt: skip
    assert person["recipients"][1]["batch_name"] == "March Follow Ups"
    assert person["recipients"][1]["parameters"] == PEOPLE[0]


async def test_an_unencoded_plus_is_read_as_one(service: httpx.AsyncClient, database: Database) -> None:
    await store_people(database)
    assert (await service.get(f"/v1/people?phone={phone_of(1)}")).json()["data"][0]["phone"] == phone_of(1)


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"parameter": "loan_id:LN-1"}, [1]),
        ({"parameter": "loan_id:LN-"}, []),
        ({"parameter": "loan_id:3"}, [3]),
        ({"parameter": "loan_id:4"}, [4]),
        ({"parameter": "loan_id:04"}, []),
        ({"parameter": "other:LN-1"}, []),
        ({"parameter": "Customer Name:Asha Sharma"}, [1]),
        ({"name": "asha"}, [1]),
        ({"name": "SHAR ash"}, [1]),
        ({"name": "harma"}, []),
        ({"name": "asha brien"}, []),
        ({"name": "o'brien"}, [2]),
        ({"name": "JOSÉ ñan"}, [3]),
        ({"name": "li"}, [4]),
    ],
)
async def test_people_are_found_by_a_parameter_or_by_words_of_their_name(
    service: httpx.AsyncClient, database: Database, params: dict[str, str], found: list[int]
) -> None:
    await store_people(database)
    assert [person["phone"] for person in await find(service, **params)] == [phone_of(number) for number in found]


@pytest.mark.parametrize("name", ["we", "LN", "a", "ra brien"])
async def test_a_name_that_is_too_short_for_a_beginning_is_refused_where_nobody_has_it(
    service: httpx.AsyncClient, database: Database, name: str
) -> None:
    await store_people(database)
    answer = await service.get("/v1/people", params={"name": name})
    assert (answer.status_code, "at least three letters" in answer.json()["error"]["message"]) == (400, True)
    visitor = await sign_in(service)
    page = await visitor.follow("/console/people", by="name", text=name)
    assert (page.status_code, "at least three letters" in page.text) == (400, True)


async def test_people_come_in_pages_those_of_the_latest_batch_first(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_people(database)
    await store_batch(database.url, 9, batch_id=458, ref_token="third", first_phone=50)
    await database.pool.execute(
        """UPDATE recipients SET parameters = '{"name": "Asha"}' WHERE phone >= $1""", phone_of(50)
    )
    phones: list[str] = []
    after: dict[str, Any] = {}
    for _ in range(5):
        page = (await service.get("/v1/people", params={"name": "asha", "limit": 4, **after})).json()
        phones += [person["phone"] for person in page["data"]]
        after = {"after": page["next"]}
        if not page["has_more"]:
            break
    assert phones == [phone_of(number) for number in (*range(58, 49, -1), 1)]


async def test_a_search_that_too_many_match_is_refused(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_people(database)
    monkeypatch.setattr("service.people.people.MAX_MATCHES", 2)
    answer = await service.get("/v1/people", params={"name": "asha"})
    assert (answer.status_code, answer.json()["error"]["message"][:5]) == (400, "name:")


@pytest.mark.parametrize(
    "params",
    [
        {}, {"phone": "12"}, {"phone": phone_of(1), "name": "a"}, {"parameter": "loan_id"}, {"parameter": ":x"},
        {"parameter": "loan_id:\0"}, {"name": "..."}, {"name": "a b c d e f g h i"}, {"key": "LN-1"},
    ],
)  # fmt: skip
async def test_a_look_up_that_cannot_be_meant_is_refused(service: httpx.AsyncClient, params: dict[str, str]) -> None:
    assert (await service.get("/v1/people", params=params)).status_code == 400


async def test_erased_people_are_not_found(service: httpx.AsyncClient, database: Database) -> None:
    await store_people(database)
    await ingest(database, *decode(make_payload(recipient=1)))
    assert (await service.post("/v1/erasures", json={"phone": phone_of(1)})).status_code == 200
    for params in ({"phone": phone_of(1)}, {"parameter": "loan_id:LN-1"}, {"name": "asha"}):
        assert await find(service, **params) == []
    assert (await service.get("/v1/people/timeline", params={"phone": phone_of(1)})).status_code == 404
    assert (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients/1/person")).status_code == 404


async def test_the_timeline_has_every_step_with_the_event_behind_it(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_people(database)
    await set_goal(database, Subject(AGENT_ID), {"intent": ["promise_to_pay"]})
    await service.put(f"/v1/agents/{AGENT_ID}/callbacks", json={"results": ["callback_time"]})
    first = make_payload(status="no_answer", final=False, event_id="first")
    said = {"intent": "promise_to_pay", "callback_time": "2099-01-01T10:00:00Z"}
    second = make_payload(attempt=2, results=said, event_id="second")
    tomorrow = BEGAN + timedelta(days=1)
    third = make_payload(
        status="busy", final=False, event_id="third", ref_token="second", conversation_id="c", began=tomorrow
    )
    for payload in (first, second, third):
        assert (await post_webhook(service, payload)).status_code == 204
    stray = make_payload(recipient=None, phone=phone_of(1), agent_id=999, event_id="stray")
    await post_webhook(service, stray)
    await service.post("/v1/suppressions", json={"phones": [phone_of(1)], "reason": "asked"})
    (person,) = await find(service, phone=phone_of(1))
    assert (person["suppression"]["reason"], person["unattributed"]) == ("asked", 1)
    steps = await read_timeline(service, phone_of(1))
    assert [step["at"] for step in steps] == sorted((step["at"] for step in steps), reverse=True)
    seen = {(step["kind"], step["batch_id"], step["event_id"]): step for step in steps}
    assert set(seen) == {
        ("callback_due", BATCH_ID, None), ("suppressed", None, None), ("unattributed", None, "stray"),
        ("retry", 457, "third"), ("attempt", 457, "third"), ("attempt", BATCH_ID, "second"),
        ("attempt", BATCH_ID, "first"), ("uploaded", BATCH_ID, None), ("uploaded", 457, None),
    }  # fmt: skip
    attempt = seen["attempt", BATCH_ID, "second"]
    assert (attempt["status"], attempt["results"], attempt["meets_goal"]) == ("completed", said, True)
    assert attempt["callbacks"][0]["due_at"].startswith("2099-01-01T10:00:00")
    await service.put(f"/v1/callbacks/{BATCH_ID}/1", json={"done": True, "note": "called"})
    done = [step for step in await read_timeline(service, phone_of(1)) if step["kind"] == "callback_done"]
    assert [(step["detail"], step["actor"]) for step in done] == [
        ("callback_time: 2099-01-01T10:00:00Z, called", "setting")
    ]
    assert not [step for step in await read_timeline(service, phone_of(1)) if step["kind"] == "callback_due"]


async def test_the_timeline_comes_in_pages_that_repeat_and_skip_nothing(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_people(database)
    await ingest(database, *decode(*(make_payload(attempt=n, final=n == 9) for n in range(1, 10))))
    whole = await read_timeline(service, phone_of(1))
    pages: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while True:
        answer = await service.get("/v1/people/timeline", params={"phone": phone_of(1), "limit": 2, **after})
        pages += answer.json()["data"]
        if not answer.json()["has_more"]:
            break
        after = {"after": answer.json()["next"]}
    assert pages == whole
    assert len(whole) == 11


async def test_an_events_body_is_what_was_signed_until_it_is_no_longer_kept(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_people(database)
    body = encode(make_payload(event_id="shown"))
    await post_webhook(service, body)
    await post_webhook(service, b'{"event_id": "odd", "data": 1}')
    answer = await service.get("/v1/events/shown/body")
    assert (answer.content, answer.headers["content-type"]) == (body, "application/octet-stream")
    assert (await service.get("/v1/events/odd/body")).content == b'{"event_id": "odd", "data": 1}'
    subjects = [line["subject"] for line in (await service.get("/v1/audit")).json()["data"]]
    assert [subject.rstrip("0123456789") for subject in subjects] == ["quarantined ", "arrival "]
    assert "no event" in (await service.get("/v1/events/other/body")).json()["error"]["message"]
    await database.pool.execute("DELETE FROM event_bodies")
    answer = await service.get("/v1/events/shown/body")
    assert (answer.status_code, "no longer kept" in answer.text) == (404, True)


async def test_every_look_at_a_person_is_in_the_audit_log_without_the_person(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_people(database)
    await post_webhook(service, make_payload(event_id="shown"))
    (person,) = await find(service, phone=phone_of(1))
    await find(service, name="asha")
    await read_timeline(service, phone_of(1))
    await service.get("/v1/events/shown/body")
    arrival_id = await database.pool.fetchval("SELECT arrival_id FROM events WHERE event_id = 'shown'")
    revealed = (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients/1/person")).json()["data"]
    assert revealed == {"phone": phone_of(1), "person": person["person"], "parameters": PEOPLE[0]}
    lines = (await service.get("/v1/audit")).json()["data"]
    assert [(line["action"], line["subject"], line["outcome"]) for line in reversed(lines)] == [
        ("people_found", "people", "found"), ("people_found", "people", "found"),
        ("timeline_read", f"person {person['person']}", "shown"), ("body_read", f"arrival {arrival_id}", "shown"),
        ("person_revealed", f"batch {BATCH_ID}, recipient 1", "shown"),
    ]  # fmt: skip
    assert lines[-1]["details"] == {"by": "phone", "people": [person["person"]]}
    text = json.dumps(lines).lower()
    assert "asha" not in text
    assert phone_of(1)[3:] not in text


async def test_a_key_that_reads_does_not_look_people_up(service: httpx.AsyncClient, database: Database) -> None:
    await store_people(database)
    created = await Keys(database).create("people", ("people",), None)
    assert created.row["scopes"] == ["people"]
    reader = await Keys(database).create("reader", ("read",), None)
    for path in ("/v1/people?name=asha", f"/v1/people/timeline?phone=%2B{phone_of(1)[1:]}", "/v1/events/x/body"):
        answer = await service.get(path, headers={"authorization": f"Bearer {reader.key}"})
        assert answer.status_code in {401, 403}

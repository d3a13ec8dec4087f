"""What became of events: their disposition one by one, and the lists of those that fit no recipient or wait."""

from urllib.parse import quote

import httpx
import pytest

from tests.factories import make_payload, phone_of, post_webhook, store_batch


async def test_an_event_is_not_found_until_it_is_committed(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    answer = await service.get("/v1/events/awaited")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")
    await post_webhook(service, make_payload(recipient=2, event_id="awaited", conversation_id="c-1"))
    event = (await service.get("/v1/events/awaited")).json()["data"]
    times = [event.pop("received_at"), event.pop("recorded_at")]
    assert all(time.endswith("Z") for time in times)
    assert times == sorted(times)
    assert event == {
        "event_id": "awaited",
        "event_type": "call.completed",
        "target": "default",
        "disposition": "applied",
        "reason": None,
        "reason_text": None,
        "disposition_text": "It decides the outcome of its call",
        "batch_id": 456,
        "recipient": 2,
        "method": "reference",
        "conversation_id": "c-1",
        "attempt_number": 1,
        "status": "completed",
        "conflicts": 0,
        "contradicts_phone": False,
        "kind": None,
    }


async def test_an_event_without_a_reference_is_applied_by_its_phone(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    await post_webhook(service, make_payload(recipient=None, phone=phone_of(4), parameters={}, event_id="by-phone"))
    event = (await service.get("/v1/events/by-phone")).json()["data"]
    assert (event["disposition"], event["method"], event["recipient"]) == ("applied", "recipient", 4)


async def test_an_earlier_word_about_the_same_attempt_is_superseded_whenever_it_comes(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    earlier = make_payload(recipient=1, event_id="earlier", conversation_id="c-1", status="failed")
    later = make_payload(recipient=1, event_id="later", conversation_id="c-1")
    earlier["timestamp"], later["timestamp"] = "2026-03-16T11:00:00Z", "2026-03-16T11:00:01Z"
    for payload in (later, earlier):
        assert (await post_webhook(service, payload)).status_code == 204
    shown = [(await service.get(f"/v1/events/{name}")).json()["data"]["disposition"] for name in ("earlier", "later")]
    assert shown == ["superseded", "applied"]


async def test_an_event_of_an_earlier_attempt_stays_applied(service: httpx.AsyncClient, database_url: str) -> None:
    await store_batch(database_url)
    await post_webhook(service, make_payload(recipient=1, attempt=1, status="busy", final=False, event_id="first"))
    await post_webhook(service, make_payload(recipient=1, attempt=2, event_id="second"))
    for name in ("first", "second"):
        assert (await service.get(f"/v1/events/{name}")).json()["data"]["disposition"] == "applied"


@pytest.mark.parametrize(("batches", "reason"), [(0, "no_batch"), (2, "ambiguous")])
async def test_an_event_that_fits_no_recipient_or_two_says_why(
    service: httpx.AsyncClient, database_url: str, batches: int, reason: str
) -> None:
    for number in range(batches):
        await store_batch(database_url, batch_id=number, ref_token=None)
    await post_webhook(
        service, make_payload(recipient=None, phone=phone_of(1), event_id="lost", parameters={"loan_id": "LN-1"})
    )
    event = (await service.get("/v1/events/lost")).json()["data"]
    assert (event["disposition"], event["reason"], event["batch_id"]) == ("unattributed", reason, None)
    (row,) = (await service.get("/v1/unattributed")).json()["data"]
    assert set(row) == {
        "arrival_id",
        "event_id",
        "agent_id",
        "phone",
        "reason",
        "reason_text",
        "received_at",
        "source",
        "is_question",
    }
    assert (row["event_id"], row["agent_id"], row["phone"], row["reason"]) == ("lost", 123, phone_of(1), reason)


async def test_an_unattributed_event_is_tried_again_when_it_is_delivered_again(
    service: httpx.AsyncClient, database_url: str
) -> None:
    payload = make_payload(recipient=1, event_id="early")
    await post_webhook(service, payload)
    assert (await service.get("/v1/events/early")).json()["data"]["disposition"] == "unattributed"
    await store_batch(database_url)
    await post_webhook(service, payload)
    assert (await service.get("/v1/events/early")).json()["data"]["disposition"] == "applied"
    assert (await service.get("/v1/unattributed")).json()["data"] == []


async def test_a_quarantined_event_says_why_and_is_listed_with_its_size(service: httpx.AsyncClient) -> None:
    body = b'{"event_id": "unusable", "event_type": "call.completed"}'
    await post_webhook(service, body)
    event = (await service.get("/v1/events/unusable")).json()["data"]
    assert (event["disposition"], event["reason"], event["event_type"]) == ("quarantined", "missing_field", None)
    (row,) = (await service.get("/v1/quarantine")).json()["data"]
    assert row["quarantine_id"] > 0
    assert (row["event_id"], row["target"], row["reason"], row["detail"], row["size_bytes"], row["deliveries"]) == (
        "unusable", "default", "missing_field", "data.call", len(body), 1,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["unattributed", "quarantine"])
async def test_a_list_is_read_page_by_page_from_the_oldest_to_the_end(service: httpx.AsyncClient, name: str) -> None:
    for number in range(5):
        payload = make_payload(recipient=None, phone="+911", event_id=f"event-of-list-{number}")
        if name == "quarantine":
            del payload["data"]["call"]
        await post_webhook(service, payload)
    seen: list[str] = []
    sizes: list[int] = []
    after: int | None = 0
    while after is not None:
        page = (await service.get(f"/v1/{name}", params={"limit": 2, "after": after})).json()
        assert set(page) == {"data", "next", "has_more"}
        seen += [row["event_id"] for row in page["data"]]
        sizes.append(len(page["data"]))
        after = page["next"]
        assert page["has_more"] == (after is not None)
    assert (seen, sizes) == ([f"event-of-list-{number}" for number in range(5)], [2, 2, 1])
    exact = (await service.get(f"/v1/{name}", params={"limit": 5})).json()
    assert (len(exact["data"]), exact["next"], exact["has_more"]) == (5, None, False)
    beyond = (await service.get(f"/v1/{name}", params={"after": 2**62})).json()
    assert beyond == {"data": [], "next": None, "has_more": False}


@pytest.mark.parametrize("name", ["unattributed", "quarantine"])
async def test_a_wrong_parameter_of_a_list_is_named(service: httpx.AsyncClient, name: str) -> None:
    for parameter, values in {"limit": ["0", "1001", "-1", "abc", ""], "after": ["-1", "abc", "", "9" * 30]}.items():
        for value in values:
            answer = await service.get(f"/v1/{name}", params={parameter: value})
            assert answer.status_code == 400, (parameter, value)
            assert answer.json()["error"]["message"].startswith(f"{parameter}: ")


async def test_an_event_id_may_hold_anything_that_a_path_can(service: httpx.AsyncClient) -> None:
    for event_id in ("with space", "ünïcode", "50%25", "a;b?c#d", "'; DROP TABLE events; --", "\N{PILE OF POO}"):
        await post_webhook(service, make_payload(event_id=event_id))
        answer = await service.get(f"/v1/events/{quote(event_id, safe='')}")
        assert answer.json()["data"]["event_id"] == event_id
    assert (await service.get("/v1/events/%00")).status_code == 404

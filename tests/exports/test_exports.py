"""Exports over HTTP: each format holds what the JSON API shows, in the order of the key."""

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.outcomes.filters import STATES
from service.store.database import Database
from tests.conftest import StartService
from tests.exports.exported import (
    export,
    flatten,
    read_csv,
    read_ndjson,
    read_parquet_by_duckdb,
    read_parquet_by_pyarrow,
    tidy,
)
from tests.factories import AGENT_ID, BATCH_ID, make_payload, post_webhook, store_batch
from tests.provider import connect_provider, upload

BATCH = f"/v1/batch-calls/{BATCH_ID}"
STRANGE = {"intent": 'später \\ "ja"\n\t\u2028😀', "score": 7, "nested": {"a": [1, None]}, "yes": True, "no": None}


async def fill(service: httpx.AsyncClient, database: Database) -> None:
    """25 recipients, some called once or twice, with results of every type."""
    await store_batch(database.url, 25)
    for payload in (
        make_payload(recipient=2, attempt=1, status="busy", final=False),
        make_payload(recipient=2, attempt=2, results=STRANGE),
        make_payload(recipient=3, attempt=None),
        make_payload(recipient=9, attempt=1, status="no_answer", final=False),
        make_payload(recipient=25, attempt=1, status="failed"),
        make_payload(recipient=24, results={}),
    ):
        assert (await post_webhook(service, payload)).status_code == 204


async def read_list(service: httpx.AsyncClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await service.get(f"{BATCH}/recipients", params={"limit": 1000})).json()["data"]
    return rows


@pytest.mark.parametrize("span", [20_000, 7, 1])
async def test_every_format_holds_the_recipients_that_the_list_shows(
    service: httpx.AsyncClient, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, span: int
) -> None:
    monkeypatch.setattr("service.exports.selection.RANGE", span)
    await fill(service, database)
    listed = await read_list(service)
    assert listed[1]["results"] == STRANGE
    expected = [tidy(row) for row in listed]
    ndjson = await export(service, f"{BATCH}/recipients.ndjson")
    assert read_ndjson(ndjson.content) == expected
    assert list(read_ndjson(ndjson.content)[0]) == list(expected[0])
    kept = await export(service, f"{BATCH}/recipients.csv", formulas="keep")
    assert read_csv(kept.content) == expected
    parquet = await export(service, f"{BATCH}/recipients.parquet")
    assert read_parquet_by_pyarrow(parquet.content) == [flatten(row) for row in expected]
    assert read_parquet_by_duckdb(parquet.content, tmp_path) == [flatten(row) for row in expected]
    for answer in (ndjson, kept, parquet):
        assert answer.headers["x-outcomes-rows"] == "25"


async def test_every_format_holds_the_attempts_that_count(
    service: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await fill(service, database)
    superseded = make_payload(recipient=25, attempt=1, status="busy", event_id="superseded")
    await post_webhook(service, superseded | {"timestamp": "2026-01-01T00:00:00Z"})
    ndjson = await export(service, f"{BATCH}/attempts.ndjson")
    rows = read_ndjson(ndjson.content)
    assert [(row["recipient"], row["attempt"], row["attempt_number"], row["status"]) for row in rows] == [
        (2, 1, 1, "busy"), (2, 2, 2, "completed"), (3, 1, None, "completed"), (9, 1, 1, "no_answer"),
        (24, 1, 1, "completed"), (25, 1, 1, "failed"),
    ]  # fmt: skip
    history = (await service.get(f"{BATCH}/recipients/2")).json()["data"]["history"]
    shown = [tidy(fact) for fact in history if fact["won"]]
    for row, fact in zip(rows[:2], shown, strict=True):
        assert row["phone"] == "+917000000002"
        assert {name: row[name] for name in fact.keys() - {"won", "decided"}} == {
            name: value for name, value in fact.items() if name not in {"won", "decided"}
        }
    assert (await export(service, f"{BATCH}/attempts.csv")).headers["x-outcomes-rows"] == "6"
    kept = read_csv((await export(service, f"{BATCH}/attempts.csv", formulas="keep")).content)
    assert [{name: row[name] for name in rows[0]} for row in kept] == rows
    parquet = await export(service, f"{BATCH}/attempts.parquet")
    assert read_parquet_by_pyarrow(parquet.content) == [flatten(row) for row in rows]
    assert read_parquet_by_duckdb(parquet.content, tmp_path) == [flatten(row) for row in rows]


async def test_every_format_holds_the_figures_of_each_batch(
    service: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await fill(service, database)
    await store_batch(database.url, 2, batch_id=7, ref_token=None, agent_id=9)
    outcomes = (await service.get(f"{BATCH}/outcomes")).json()["data"]
    exported = read_ndjson((await export(service, "/v1/exports/batches.ndjson")).content)
    assert [row["batch_id"] for row in exported] == [7, BATCH_ID]
    row = exported[1]
    assert (row["name"], row["agent_id"], row["verdict"]) == ("March Follow Ups", AGENT_ID, "unverified")
    figures = outcomes["recipients"]
    assert {name: row["total_recipients" if name == "total" else name] for name in figures} == figures
    assert {name: row[name] for name in outcomes["statuses"]} == outcomes["statuses"]
    assert (row["attempts"], row["connects"]) == (6, outcomes["attempts"]["by_status"]["completed"])
    for name in ("success_rate", "completion_rate", "connect_rate"):
        assert row[name] == pytest.approx(outcomes["rates"][name]["percent"], abs=0.05)
    assert row["average_duration_seconds"] == outcomes["duration_seconds"]["average"]
    assert row["total_duration_seconds"] == outcomes["duration_seconds"]["total"]
    assert row["details_outstanding"] == outcomes["details_outstanding"] == 0
    assert row["last_event_at"] == datetime.fromisoformat(outcomes["last_event_at"])
    assert exported[0]["success_rate"] == 0.0
    assert exported[0]["completion_rate"] is None
    parquet = (await export(service, "/v1/exports/batches.parquet")).content
    without = [one | {"as_of": None} for one in exported]
    for read in (read_parquet_by_pyarrow(parquet), read_parquet_by_duckdb(parquet, tmp_path)):
        assert [one | {"as_of": None} for one in read] == without


async def test_parquet_has_real_types(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    texts, instant = pa.map_(pa.string(), pa.string()), pa.timestamp("us", tz="UTC")
    recipients = pq.read_schema(io.BytesIO((await export(service, f"{BATCH}/recipients.parquet")).content))
    types = {field.name: field.type for field in recipients}
    assert types["recipient"] == types["attempts"] == types["duration_seconds"] == pa.int32()
    assert (types["batch_id"], types["is_final"], types["phone"]) == (pa.int64(), pa.bool_(), pa.string())
    assert types["parameters"] == types["results"] == texts
    assert types["last_attempt_at"] == types["known_at"] == types["next_retry_at"] == instant
    batches = pq.read_schema(io.BytesIO((await export(service, "/v1/exports/batches.parquet")).content))
    assert {batches.field(name).type for name in ("success_rate", "average_duration_seconds")} == {pa.decimal128(28, 4)}
    assert batches.field("as_of").type == instant


async def test_parquet_is_written_in_row_groups(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.exports.selection.RANGE", 10)
    monkeypatch.setattr("service.exports.parquet.SLICE_BYTES", 1)
    monkeypatch.setattr("service.exports.parquet.GROUP_BYTES", 2_000)
    await store_batch(database.url, 100)
    content = (await export(service, f"{BATCH}/recipients.parquet")).content
    metadata = pq.read_metadata(io.BytesIO(content))
    assert metadata.num_rows == 100
    assert metadata.num_row_groups > 2
    assert [row["recipient"] for row in read_parquet_by_pyarrow(content)] == list(range(1, 101))


async def test_an_export_can_continue_where_another_ended(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    whole = read_ndjson((await export(service, f"{BATCH}/recipients.ndjson")).content)
    first = await export(service, f"{BATCH}/recipients.ndjson", until=11)
    assert (first.headers["x-outcomes-until"], first.headers["x-outcomes-rows"]) == ("11", "11")
    rest = await export(service, f"{BATCH}/recipients.ndjson", after=first.headers["x-outcomes-until"])
    assert (rest.headers["x-outcomes-until"], rest.headers["x-outcomes-rows"]) == ("25", "14")
    assert read_ndjson(first.content) + read_ndjson(rest.content) == whole
    beyond = await export(service, f"{BATCH}/recipients.csv", after=1000)
    assert (beyond.headers["x-outcomes-rows"], len(beyond.text.splitlines())) == ("0", 1)
    attempts = read_ndjson((await export(service, f"{BATCH}/attempts.ndjson", after=2, until=24)).content)
    assert [row["recipient"] for row in attempts] == [3, 9, 24]
    assert first.headers["content-disposition"] == f'attachment; filename="batch-{BATCH_ID}-recipients-until-11.ndjson"'


@pytest.mark.parametrize(
    ("state", "numbers"),
    [("completed", [2, 3, 24]), ("pending_retry", [9]), ("failed", [25]), ("busy", []), ("withdrawn", [])],
)
async def test_recipients_in_one_state_are_exported_alone(
    service: httpx.AsyncClient, database: Database, state: str, numbers: list[int]
) -> None:
    await fill(service, database)
    answer = await export(service, f"{BATCH}/recipients.ndjson", state=state)
    assert [row["recipient"] for row in read_ndjson(answer.content)] == numbers
    assert answer.headers["x-outcomes-rows"] == str(len(numbers))
    open_ones = await export(service, f"{BATCH}/recipients.ndjson", state="in_progress")
    assert open_ones.headers["x-outcomes-rows"] == str(len(read_ndjson(open_ones.content))) == "20"


async def test_a_person_who_was_erased_or_withdrawn_is_exported_and_counted_only_as_that(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    for number in (2, 9, 10):  # completed, waiting for a retry, never called
        answer = await service.post("/v1/erasures", json={"phone": f"+91{7_000_000_000 + number}"})
        assert answer.json()["data"]["state"] == "done"
    await database.pool.execute("UPDATE recipients SET withdrawn_at = now() WHERE recipient_no IN (11, 12)")
    await database.pool.execute("UPDATE batches SET withdrawn_count = 2")
    found = {}
    for state in STATES:
        listed = await service.get(f"{BATCH}/recipients", params={"state": state, "limit": 1000})
        numbers = [row["recipient"] for row in listed.json()["data"]]
        for span in ({}, {"after": 2, "until": 24}):
            exported = await export(service, f"{BATCH}/recipients.ndjson", state=state, **span)
            rows = [row["recipient"] for row in read_ndjson(exported.content)]
            assert rows == [number for number in numbers if not span or 2 < number <= 24]
            assert exported.headers["x-outcomes-rows"] == str(len(rows)), state
        found[state] = numbers
    assert (found["erased"], found["completed"], found["pending_retry"]) == ([2, 9], [3, 24], [])
    assert 10 in found["in_progress"]
    assert found["withdrawn"] == [11, 12]


async def test_an_export_shows_its_instant_and_its_verdict(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    before = await database.pool.fetchval("SELECT clock_timestamp()")
    head = await service.head(f"{BATCH}/recipients.csv")
    assert (head.status_code, head.content) == (200, b"")
    answer = await export(service, f"{BATCH}/recipients.csv")
    after = await database.pool.fetchval("SELECT clock_timestamp()")
    assert before <= datetime.fromisoformat(answer.headers["x-outcomes-as-of"]) <= after
    for headers in (head.headers, answer.headers):
        assert headers["x-outcomes-verdict"] == "unverified"
        assert headers["x-outcomes-rows"] == "25"
        assert headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert headers["cache-control"] == "private, no-store"


async def test_every_header_of_an_export_is_documented_and_every_documented_one_is_sent(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    paths = (await service.get("/openapi.json")).json()["paths"]
    exports = {path: each["get"]["responses"]["200"] for path, each in paths.items() if path.endswith(".{format}")}
    assert len(exports) == 5
    for path, documented in exports.items():
        answer = await export(service, path.format(batch_id=BATCH_ID, format="csv"))
        sent = {name for name in answer.headers if name.startswith("x-outcomes-")}
        assert sent == {name.lower() for name in documented["headers"]}, path


async def test_batches_and_their_recipients_are_chosen_by_agent_and_time(
    service: httpx.AsyncClient, database: Database
) -> None:
    for batch_id, agent_id, day in ((1, 9, "2026-03-01"), (2, 8, "2026-03-02"), (3, 9, "2026-03-03")):
        prepared_at = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        await store_batch(
            database.url, 3, batch_id=batch_id, ref_token=None, agent_id=agent_id, prepared_at=prepared_at
        )

    async def choose(**params: Any) -> list[int]:
        answer = await export(service, "/v1/exports/batches.ndjson", **params)
        rows = [row["batch_id"] for row in read_ndjson(answer.content)]
        assert answer.headers["x-outcomes-rows"] == str(len(rows))
        recipients = await export(service, "/v1/exports/recipients.ndjson", **params)
        found = [(row["batch_id"], row["recipient"]) for row in read_ndjson(recipients.content)]
        assert found == [(batch_id, number) for batch_id in rows for number in (1, 2, 3)]
        assert recipients.headers["x-outcomes-rows"] == str(len(found))
        return rows

    assert await choose() == [1, 2, 3]
    assert await choose(agent_id=9) == [1, 3]
    assert await choose(**{"from": "2026-03-02"}) == [2, 3]
    assert await choose(**{"from": "2026-03-01", "to": "2026-03-02"}) == [1, 2]
    assert await choose(**{"from": "2026-03-02", "to": "2026-03-02"}) == [2]
    assert await choose(**{"from": "2026-03-01T00:00:00Z", "to": "2026-03-03T00:00:00Z"}) == [1, 2]
    # Midnight in UTC is the evening before in New York, and the same day in Kolkata from 18:30 of the day before.
    assert await choose(to="2026-03-01", time_zone="America/New_York") == [1, 2]
    assert await choose(**{"from": "2026-03-02", "to": "2026-03-02", "time_zone": "Asia/Kolkata"}) == [2]
    assert await choose(**{"from": "2026-03-02T05:30:01", "time_zone": "Asia/Kolkata"}) == [3]
    assert await choose(**{"from": "2026-03-02T05:30", "time_zone": "Asia/Kolkata"}) == [2, 3]
    assert await choose(after=1, until=2) == [2]
    assert await choose(agent_id=7) == []
    shown = csv.DictReader(io.StringIO((await export(service, "/v1/exports/recipients.csv")).text))
    assert [row["parameters"] for row in shown][:2] == ['{"loan_id": "LN-1"}', '{"loan_id": "LN-2"}']


NASTY = [
    "=1+1", "+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠x", '"quoted"',
    "two\nlines", "a;b,c|d", "-5", "+5.25", "-", "plain", "\\.", "'=1",
]  # fmt: skip
HARMLESS = {'"quoted"', "two\nlines", "a;b,c|d", "-5", "+5.25", "plain", "\\.", "'=1"}


async def test_cells_that_a_spreadsheet_would_run_are_made_harmless(start_service: StartService) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["customer_phone", "=note", "long " * 20 + "€"])
    writer.writerows([f"+91{7_000_000_000 + n}", text, "x"] for n, text in enumerate(NASTY))
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service, file.getvalue(), name='=HYPERLINK("evil")\r\n"')).status_code == 200
        escaped = await export(service, f"{BATCH}/recipients.csv")
        rows = list(csv.DictReader(io.StringIO(escaped.text, newline="")))
        assert escaped.text.splitlines()[0].split(",")[3:5] == ["parameters.=note", f"parameters.{'long ' * 20}€"]
        assert [row["phone"] for row in rows] == [f"+91{7_000_000_000 + n}" for n in range(len(NASTY))]
        expected = [text if text in HARMLESS else f"'{text}" for text in await read_notes(service)]
        assert [row["parameters.=note"] for row in rows] == expected
        assert sum(row["parameters.=note"].startswith("'") for row in rows) >= 12
        kept = await export(service, f"{BATCH}/recipients.csv", formulas="keep")
        notes = [row["parameters.=note"] for row in csv.DictReader(io.StringIO(kept.text, newline=""))]
        assert notes == await read_notes(service)
        (batch,) = csv.DictReader(io.StringIO((await export(service, "/v1/exports/batches.csv")).text, newline=""))
        assert batch["name"].startswith("'=HYPERLINK")
        assert escaped.headers["content-disposition"] == f'attachment; filename="batch-{BATCH_ID}-recipients.csv"'


async def read_notes(service: httpx.AsyncClient) -> list[str]:
    """The notes as they are stored."""
    rows = read_ndjson((await export(service, f"{BATCH}/recipients.ndjson")).content)
    return [row["parameters"]["=note"] for row in rows]


async def test_what_comes_from_a_webhook_is_made_harmless_too(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 1)
    payload = make_payload(status="failed", event_id="=evil", conversation_id="@evil")
    payload["data"]["call"]["failure_reason"] = "-evil"
    await post_webhook(service, payload)
    for kind in ("recipients", "attempts"):
        (row,) = csv.DictReader(io.StringIO((await export(service, f"{BATCH}/{kind}.csv")).text))
        cells = (row["event_id"], row["conversation_id"], row["failure_reason"])
        assert cells == ("'=evil", "'@evil", "'-evil")


async def test_a_batch_without_known_columns_has_its_parameters_in_one_cell(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 1)
    await database.pool.execute("UPDATE batches SET columns = '{}'")
    answer = await export(service, f"{BATCH}/recipients.csv", formulas="keep")
    assert answer.text.startswith("batch_id,recipient,phone,parameters,state,")
    assert read_csv(answer.content)[0]["parameters"] == {"loan_id": "LN-1"}


async def test_a_batch_with_more_columns_than_the_server_gives_has_its_parameters_in_one_cell(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 1)
    for count, is_one in ((1500, False), (1501, True)):
        columns = ["customer_phone", *(f"column_{n}" for n in range(count))]
        await database.pool.execute("UPDATE batches SET columns = $1", columns)
        answer = await export(service, f"{BATCH}/recipients.csv", formulas="keep")
        assert (b",parameters,state," in answer.content) == is_one


async def test_results_that_are_no_object_are_kept_in_parquet(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 3)
    for number, results in enumerate(([1, 2], "text", 10**30), start=1):
        await post_webhook(service, make_payload(recipient=number))
        await database.pool.execute(
            "UPDATE facts SET results = $1 WHERE recipient_no = $2", json.dumps(results), number
        )
    rows = read_parquet_by_pyarrow((await export(service, f"{BATCH}/recipients.parquet")).content)
    assert [row["results"] for row in rows] == [{"": "[1, 2]"}, {"": "text"}, {"": str(10**30)}]


async def test_no_text_is_taken_for_another_value_in_parquet(service: httpx.AsyncClient, database: Database) -> None:
    texts = ["", "NULL", "null", "NaN", "true", "1", "two\nlines", 'a "quote", and more', "\\.", None]
    await store_batch(database.url, len(texts))
    for number, text in enumerate(texts, start=1):
        await post_webhook(service, make_payload(recipient=number, status="failed"))
        await database.pool.execute("UPDATE facts SET failure_reason = $1 WHERE recipient_no = $2", text, number)
    rows = read_parquet_by_pyarrow((await export(service, f"{BATCH}/recipients.parquet")).content)
    assert [row["failure_reason"] for row in rows] == texts


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{BATCH}/recipients.csv?after=-1", "after: takes"),
        (f"{BATCH}/recipients.csv?after=5&until=4", "until: takes a whole number from after (5)"),
        (f"{BATCH}/recipients.csv?until=x", "until: takes"),
        (f"{BATCH}/recipients.csv?state=lost", "state: takes some of in_progress"),
        (f"{BATCH}/recipients.csv?formulas=run", "formulas: takes one of escape, keep"),
        (f"{BATCH}/recipients.parquet?formulas=keep", "formulas: is only for csv"),
        ("/v1/exports/batches.csv?from=yesterday", "from: takes a day"),
        ("/v1/exports/batches.csv?to=20260316", "to: takes a day"),
        ("/v1/exports/batches.csv?from=2026-03-02&to=2026-03-01", "from, to: the period must end after it begins"),
        ("/v1/exports/batches.csv?time_zone=Mars/Olympus", "time_zone: takes an IANA time zone"),
        ("/v1/exports/recipients.csv?agent_id=me", "agent_id: takes"),
    ],
)
async def test_an_invalid_parameter_is_refused_by_its_name(
    service: httpx.AsyncClient, database: Database, path: str, message: str
) -> None:
    await store_batch(database.url, 1)
    answer = await service.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request"
    assert answer.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/batch-calls/999/recipients.csv",
        "/v1/batch-calls/999/attempts.parquet",
        "/v1/batch-calls/x/recipients.csv",
        f"{BATCH}/recipients.xls",
        "/v1/exports/batches.json",
    ],
)
async def test_an_unknown_batch_or_format_is_not_found(
    service: httpx.AsyncClient, database: Database, path: str
) -> None:
    await store_batch(database.url, 1)
    answer = await service.get(path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")
    if "456" in path or "exports" in path:
        assert "csv, ndjson, parquet, xlsx" in answer.json()["error"]["message"]


async def test_an_export_needs_a_key(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url, 1)
    answer = await service.get(f"{BATCH}/recipients.csv", headers={"authorization": "Bearer other"})
    assert answer.status_code == 401

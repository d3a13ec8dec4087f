"""Traces: what a collector gets of each kind of work, that nobody's data is in it, and that off they are nowhere."""

import asyncio
import socket
import sys
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.app import DEFAULT_BACKLOG_LIMITS
from service.sandbox import sample_contacts
from service.store.database import Database
from service.telemetry import tracing
from service.webhooks.backlog import BacklogLimits
from tests.conftest import API_KEY, SECRET, StartService
from tests.eventually import eventually
from tests.factories import make_payload, phone_of, post_webhook, store_batch
from tests.processes import run
from tests.provider import KEY, connect_provider, upload
from tests.telemetry.collector import Collector, collect, read_attributes

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = (f"00-{TRACE_ID}-{PARENT_ID}-0{flag}" for flag in (1, 0))


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and OpenTelemetry's own variables that lead there."""
    with collect() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


def has_failed(span: Span) -> bool:
    return span.status.code == Status.StatusCode.STATUS_CODE_ERROR


async def test_a_request_is_a_span_below_its_callers_and_names_the_route(
    start_service: StartService, collector: Collector
) -> None:
    async with start_service(OUTCOMES_TRACES="1") as service:
        path = f"/v1/events/{phone_of(1)}"
        headers = {"traceparent": SAMPLED, "tracestate": f"vendor={phone_of(1)[1:]}", "baggage": "name=Rahul"}
        assert (await service.get(path, headers=headers)).status_code == 404
        own = await service.get("/v1/batch-calls")
    (asked,) = collector.find("GET /v1/events/{event_id}")
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert asked.kind == Span.SpanKind.SPAN_KIND_SERVER
    assert read_attributes(asked) == {
        "http.request.method": "GET", "http.route": "/v1/events/{event_id}", "http.response.status_code": 404,
        "outcomes.request_id": TRACE_ID,
    }  # fmt: skip
    assert not has_failed(asked)
    (listed,) = collector.find("GET /v1/batch-calls")
    assert listed.trace_id.hex() == own.headers["x-request-id"], "log and trace name the same"
    assert listed.parent_span_id == b""
    assert {named["service.name"] for named in collector.resources} == {"outcomes"}
    for secret in (phone_of(1)[1:], "Rahul", API_KEY, SECRET):
        assert secret.encode() not in b"".join(collector.raw)


def is_idle(answer: httpx.Response) -> bool:
    """Whether the details of all healed calls are there."""
    return bool(answer.json()["data"]["state"] == "idle")


async def test_uploads_calls_webhooks_commits_comparisons_and_exports_are_spans_that_name_nobody(
    start_service: StartService, collector: Collector
) -> None:
    contacts = sample_contacts(30, seed=1)
    async with connect_provider(start_service, plays=True, OUTCOMES_TRACES="1") as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.3
        service.headers["traceparent"] = SAMPLED
        assert (await upload(service, contacts, name="Rahul and Anita")).status_code == 200
        async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=60) as witness:
            await witness.get("/sandbox/wait", params={"batch_id": 456})
        compared = await service.post("/v1/batch-calls/456/reconcile")
        assert compared.json()["data"]["verdict"] == "complete"
        await eventually(lambda: service.get("/v1/batch-calls/456/reconcile"), is_idle)
        assert (await service.get("/v1/batch-calls/456/recipients.csv")).status_code == 200
    by_id = {span.span_id: span for span in collector.spans}

    def name_parents(span: Span) -> list[str]:
        parent = by_id.get(span.parent_span_id)
        return [] if parent is None else [parent.name, *name_parents(parent)]

    (prepared,), (sent,) = collector.find("upload_prepare"), collector.find("upload_send")
    assert name_parents(prepared) == name_parents(sent) == ["POST /v1/batch-call"]
    assert read_attributes(prepared) == {"outcomes.upload_id": 1, "outcomes.agent_id": 123}
    assert read_attributes(sent) == {"outcomes.upload_id": 1, "outcomes.batch_id": 456}
    calls = {str(read_attributes(span)["outcomes.operation"]): span for span in collector.find("provider")}
    assert calls.keys() >= {"upload_batch", "get_batch", "get_metrics", "list_conversations", "get_conversation"}
    assert name_parents(calls["upload_batch"]) == ["upload_send", "POST /v1/batch-call"]
    assert calls["get_metrics"].kind == Span.SpanKind.SPAN_KIND_CLIENT
    assert read_attributes(calls["get_metrics"])["http.response.status_code"] == 200
    (compared_span,), (healed,) = collector.find("reconcile"), collector.find("heal")
    assert read_attributes(compared_span)["outcomes.verdict"] == "complete"
    assert read_attributes(compared_span)["outcomes.calls"] == len(calls_below(collector, name_parents, "reconcile"))
    assert read_attributes(healed)["outcomes.healed"] > 0
    assert name_parents(calls["list_conversations"])[:2] == ["heal", "reconcile"]
    assert name_parents(calls["get_conversation"])[0] == "read_details"
    (exported,) = collector.find("export")
    assert read_attributes(exported) == {
        "outcomes.exported": "recipients", "outcomes.format": "csv", "outcomes.ending": "done",
    }  # fmt: skip
    webhooks = collector.find("webhook")
    assert len(webhooks) > 10
    assert read_attributes(webhooks[0]) == {"outcomes.target": "default", "http.response.status_code": 204}
    assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in webhooks)
    committed = [read_attributes(span)["outcomes.events"] for span in collector.find("commit")]
    assert sum(committed) == len(webhooks)
    known = set(tracing.ATTRIBUTES.values())
    assert {name for span in collector.spans for name in read_attributes(span)} <= known
    assert not any(span.events for span in collector.spans)
    everything = b"".join(collector.raw)
    people = [cell for line in contacts.splitlines()[1:] for cell in line.split(",") if len(cell) > 3]
    assert len(people) > 30
    for secret in (*people, *(cell.lstrip("+") for cell in people), "Rahul", "Anita", KEY, SECRET, API_KEY):
        assert secret.encode() not in everything


def calls_below(collector: Collector, name_parents: object, name: str) -> list[Span]:
    """The provider calls somewhere below a span of this name."""
    assert callable(name_parents)
    return [span for span in collector.find("provider") if name in name_parents(span)]


async def test_a_failure_is_reported_by_its_class_and_its_message_is_not(
    start_service: StartService, database: Database, collector: Collector
) -> None:
    await store_batch(database.url)
    async with start_service(BacklogLimits(hold_seconds=0.2), OUTCOMES_TRACES="1") as service:
        await database.pool.execute("DROP TABLE unattributed")
        assert (await service.get("/v1/unattributed")).status_code == 500
        await database.pool.execute("DROP FUNCTION ingest")
        assert (await post_webhook(service, make_payload())).status_code == 503
    (failed,) = collector.find("GET /v1/unattributed")
    assert (has_failed(failed), failed.status.message) == (True, "UndefinedTableError")
    (deferred,) = collector.find("commit")
    assert (has_failed(deferred), deferred.status.message) == (True, "not committed in time")
    assert b"does not exist" not in b"".join(collector.raw)
    assert collector.find("webhook") == []


async def test_only_the_share_that_was_asked_for_is_kept_and_what_callers_keep(
    start_service: StartService, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    async with start_service(OUTCOMES_TRACES="1") as service:
        for headers in ({}, {"traceparent": UNSAMPLED}, {"traceparent": SAMPLED}):
            assert (await service.get("/v1/batch-calls", headers=headers)).status_code == 200
            assert (await post_webhook(service, make_payload(), **headers)).status_code == 204
            assert (await post_webhook(service, make_payload(), secret="wrong", **headers)).status_code == 401
    assert sorted(span.name for span in collector.spans) == ["GET /v1/batch-calls", "webhook"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE_ID}


async def test_the_provider_receives_nothing_of_our_traces(start_service: StartService, collector: Collector) -> None:
    with collect() as provider:
        settings = {"FORMANT_BASE_URL": provider.url, "FORMANT_API_KEY": KEY, "OUTCOMES_TRACES": "1"}
        async with start_service(DEFAULT_BACKLOG_LIMITS, **settings) as service:
            headers = {"traceparent": SAMPLED, "x-request-id": "of-the-caller-1", "tracestate": "a=b", "baggage": "a=b"}
            assert (await service.get("/v1/batch-calls/999", headers=headers)).status_code == 404
    (asked,) = {path for path, _ in provider.asked}
    assert asked == "/v1/batch-calls/999"
    for _, headers in provider.asked:
        assert headers.keys() == {"host", "accept", "accept-encoding", "connection", "user-agent", "authorization"}
    assert [read_attributes(span)["http.response.status_code"] for span in collector.find("provider")] == [404]


async def test_a_collector_that_is_silent_or_gone_holds_nothing_up(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never a word
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with (
            asyncio.timeout(8),
            start_service(OUTCOMES_TRACES="1") as service,
        ):  # its own patience is 10 s and more
            assert (await service.get("/v1/batch-calls")).status_code == 200
            assert (await post_webhook(service, make_payload())).status_code == 204
    assert not tracing.is_tracing()


async def test_off_no_sdk_and_no_exporter_is_imported(database_url: str) -> None:
    script = """
import asyncio, os, sys
import httpx
from service import cli
from service.app import open_app
from service.settings import read_settings
async def main():
    settings = read_settings(os.environ)
    async with open_app(settings, settings.database_url) as service:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://it") as client:
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.post("/webhooks/formant")).status_code == 401
asyncio.run(main())
unwanted = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests")
print([name for name in sys.modules if name.startswith(unwanted)])
"""
    done = await run(sys.executable, "-c", script, OUTCOMES_DATABASE_URL=database_url)
    assert (done.status, done.output.splitlines()[-1]) == (0, "[]"), done.errors


async def test_asked_for_and_not_installed_it_refuses_to_start_and_says_what_to_do(database_url: str) -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; sys.argv[1:] = ['serve']; "
        "from service.cli import main; main()"
    )
    done = await run(sys.executable, "-c", script, OUTCOMES_DATABASE_URL=database_url, OUTCOMES_TRACES="1")
    assert done.status == 2
    assert "pip install 'formant-outcomes[otel]'" in done.errors.splitlines()[-1]


def test_an_attribute_that_is_not_on_the_list_is_dropped() -> None:
    report: dict[str, str | int | None] = {"phone": phone_of(1), "name": "Rahul", "batch_id": 456, "key_id": None}
    assert tracing._select(report) == {"outcomes.batch_id": 456}

"""The summary: counters turned into figures, by the provider's definitions and our own."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.events import STATUSES
from service.outcomes.figures import PRECISION
from service.outcomes.summary import Counts, summarise, to_provider_metrics

AS_OF = datetime(2026, 3, 16, 12, tzinfo=UTC)
NO_RATE = {"percent": None, "low_percent": None, "high_percent": None, "attempts": 0}
HOURS = [{"hour": hour, "attempts": 0, "connects": 0, "connect_rate": NO_RATE} for hour in range(24)]


def make_counts(
    total: int = 10,
    *,
    outcomes: list[dict[str, Any]] | None = None,
    attempts: list[dict[str, Any]] | None = None,
    results: list[dict[str, Any]] | None = None,
) -> Counts:
    return msgspec.convert(
        {
            "id": 456,
            "name": "March Follow Ups",
            "agent_id": 123,
            "status": "pending",
            "created_at": AS_OF,
            "total_recipients": total,
            "as_of": AS_OF,
            "last_event_at": None,
            "outcomes": outcomes or [],
            "attempts": attempts or [],
            "results": results or [],
        },
        Counts,
    )


def outcome(state: str, recipients: int, attempts: int = 1, source: str = "webhook", **talk: int) -> dict[str, Any]:
    talked = {"talked": 0, "talk_seconds": 0} | talk
    return {"state": state, "recipients": recipients, "attempts": attempts, "source": source, **talked}


def attempt(hour: int | None, status: str, attempts: int) -> dict[str, Any]:
    return {"hour": hour, "status": status, "attempts": attempts}


def result(name: str, total: int, value: str, recipients: int) -> dict[str, Any]:
    return {"name": name, "total": total, "value": value, "recipients": recipients}


SEED = make_counts(
    500,
    outcomes=[
        outcome("completed", 400, attempts=1, talked=400, talk_seconds=50_000),
        outcome("completed", 20, attempts=2, source="healed", talked=20, talk_seconds=2_710),
        outcome("busy", 15, attempts=3),
        outcome("failed", 22, attempts=3),
        outcome("telephony_failed", 8, attempts=1),
        outcome("no_answer", 20, attempts=3),
        outcome("pending_retry", 10, attempts=1),
    ],
)


def test_the_provider_shaped_metrics_of_the_seeds_batch_are_the_seeds_figures() -> None:
    assert msgspec.to_builtins(to_provider_metrics(SEED)) == {
        "avg_duration_seconds": 125.5,
        "busy_count": 15,
        "completed_count": 420,
        "failed_count": 30,
        "in_progress_count": 5,
        "no_answer_count": 20,
        "pending_retry_count": 10,
        "socket_failure_count": 0,
        "success_count": 420,
        "success_rate": 84.0,
        "total_processed": 485,
        "unreachable_count": 0,
    }


def test_calls_that_the_carrier_failed_are_folded_into_failed_for_the_provider_and_kept_apart_for_us() -> None:
    assert to_provider_metrics(SEED).failed_count == 30
    statuses = summarise(SEED)["statuses"]
    assert (statuses["failed"], statuses["telephony_failed"]) == (22, 8)
    assert list(statuses) == list(STATUSES)


def test_recipients_are_processed_waiting_or_in_progress() -> None:
    assert summarise(SEED)["recipients"] == {"total": 500, "processed": 485, "in_progress": 5, "pending_retry": 10}


def test_each_rate_names_its_count_and_denominator() -> None:
    counts = make_counts(
        10,
        outcomes=[outcome("completed", 3), outcome("busy", 4)],
        attempts=[attempt(10, "completed", 3), attempt(10, "busy", 5), attempt(11, "no_answer", 1)],
    )
    counts.contacted = 4
    assert summarise(counts)["rates"] == {
        "success_rate": {"percent": 30.0, "count": 3, "of": 10, "denominator": "recipients.total"},
        "completion_rate": {"percent": 42.9, "count": 3, "of": 7, "denominator": "recipients.processed"},
        "connect_rate": {"percent": 33.3, "count": 3, "of": 9, "denominator": "attempts.total"},
        "penetration": {"percent": 70.0, "count": 7, "of": 10, "denominator": "recipients.total"},
        "contact_rate": {"percent": 57.1, "count": 4, "of": 7, "denominator": "attempts.recipients"},
        "goal_rate": {"percent": None, "count": None, "of": 10, "denominator": "recipients.total"},
        "attempts_per_connect": {"ratio": 3.0, "count": 9, "of": 3, "denominator": "attempts.connects"},
    }


def test_durations_are_of_completed_recipients_that_have_one() -> None:
    counts = make_counts(
        outcomes=[
            outcome("completed", 3, talked=2, talk_seconds=100),
            outcome("completed", 1, attempts=2, talked=1, talk_seconds=25),
            outcome("failed", 2, talked=2, talk_seconds=900),
        ]
    )
    shown = summarise(counts)["duration_seconds"]
    assert (shown["average"], shown["total"], shown["count"]) == (41.7, 125, 3)
    assert to_provider_metrics(counts).avg_duration_seconds == 41.7


def test_attempts_are_shown_by_status_and_by_how_many_a_recipient_took() -> None:
    counts = make_counts(
        outcomes=[outcome("completed", 3, attempts=2), outcome("busy", 1, attempts=2), outcome("busy", 2, attempts=1)],
        attempts=[attempt(9, "completed", 3), attempt(10, "busy", 4), attempt(None, "busy", 3)],
    )
    shown = summarise(counts)["attempts"]
    assert shown["total"] == 10
    assert shown["by_status"] == dict.fromkeys(STATUSES, 0) | {"completed": 3, "busy": 7}
    assert list(shown["recipients_by_attempts"].items()) == [(1, 2), (2, 4)]


def test_attempts_by_hour_cover_the_day_and_leave_out_those_without_a_time() -> None:
    counts = make_counts(
        attempts=[attempt(0, "busy", 2), attempt(23, "completed", 3), attempt(23, "busy", 1), attempt(None, "busy", 9)]
    )
    by_hour = summarise(counts)["by_hour"]
    assert by_hour[0] | {"connect_rate": None} == {"hour": 0, "attempts": 2, "connects": 0, "connect_rate": None}
    assert by_hour[23] == {
        "hour": 23, "attempts": 4, "connects": 3,
        "connect_rate": {"percent": 75.0, "low_percent": 30.1, "high_percent": 95.4, "attempts": 4},
    }  # fmt: skip
    assert by_hour[1:23] == HOURS[1:23]


def test_every_denominator_is_a_figure_of_the_same_answer() -> None:
    shown = summarise(SEED)
    for rate in shown["rates"].values():
        block, name = rate["denominator"].split(".")
        assert rate["of"] == shown[block][name]


def test_attempts_by_weekday_and_hour_are_those_by_hour_and_leave_out_those_without_a_time() -> None:
    counts = make_counts(
        attempts=[
            attempt(9, "busy", 2) | {"weekday": 1},
            attempt(9, "completed", 3) | {"weekday": 1},
            attempt(23, "completed", 1) | {"weekday": 7},
            attempt(None, "busy", 5) | {"weekday": None},
        ]
    )
    shown = summarise(counts)
    assert shown["by_weekday"][0] | {"connect_rate": 0} == {
        "weekday": 1,
        "attempts": 5,
        "connects": 3,
        "connect_rate": 0,
    }
    assert shown["by_weekday"][6] | {"connect_rate": 0} == {
        "weekday": 7,
        "attempts": 1,
        "connects": 1,
        "connect_rate": 0,
    }
    assert [row["attempts"] for row in shown["by_weekday"][1:6]] == [0] * 5
    monday, sunday = shown["by_weekday_hour"][0], shown["by_weekday_hour"][6]
    assert (monday["attempts"][9], monday["connects"][9], sunday["attempts"][23]) == (5, 3, 1)
    for hour, row in enumerate(shown["by_hour"]):
        assert row["attempts"] == sum(day["attempts"][hour] for day in shown["by_weekday_hour"])
        assert row["connects"] == sum(day["connects"][hour] for day in shown["by_weekday_hour"])


def test_results_list_their_values_and_count_what_is_not_listed_as_other() -> None:
    counts = make_counts(
        results=[result("intent", 9, "pay", 5), result("intent", 9, "refuse", 1), result("mood", 2, "good", 2)]
    )
    results = summarise(counts)["results"]
    assert results["intent"] == {"total": 9, "values": {"pay": 5, "refuse": 1}, "other": 3}
    assert list(results["intent"]["values"]) == ["pay", "refuse"]
    assert results["mood"] == {"total": 2, "values": {"good": 2}, "other": 0}


def test_sources_show_how_many_recipients_were_healed() -> None:
    assert summarise(SEED)["sources"] == {"webhook": 475, "healed": 20}


def test_a_batch_without_events_has_no_percents_and_no_average() -> None:
    for total, open_count in ((0, 0), (10, 10)):
        shown = summarise(make_counts(total))
        assert shown["recipients"] == {"total": total, "processed": 0, "in_progress": open_count, "pending_retry": 0}
        assert shown["rates"]["completion_rate"]["percent"] is None
        assert shown["rates"]["connect_rate"]["percent"] is None
        assert shown["rates"]["success_rate"]["percent"] == (0.0 if total else None)
        percentiles = dict.fromkeys(("p50", "p90", "p95", "p99"))
        assert shown["duration_seconds"] == {
            "average": None, "total": 0, "count": 0, **percentiles, "precision": PRECISION,
        }  # fmt: skip
        assert shown["rates"]["attempts_per_connect"]["ratio"] is None
        assert shown["rates"]["contact_rate"]["percent"] is None
        assert (shown["results"], shown["by_hour"], shown["sources"]) == ({}, HOURS, {"webhook": 0, "healed": 0})
        assert to_provider_metrics(make_counts(total)).success_rate == 0.0
        assert to_provider_metrics(make_counts(total)).avg_duration_seconds == 0.0


def test_more_outcomes_than_the_provider_reports_recipients_never_make_a_negative_count() -> None:
    assert summarise(make_counts(2, outcomes=[outcome("busy", 5)]))["recipients"]["in_progress"] == 0


def test_the_summary_shows_its_batch_and_its_verdict() -> None:
    shown = summarise(make_counts())
    assert shown["batch"] == {
        "id": 456,
        "name": "March Follow Ups",
        "agent_id": 123,
        "status": "pending",
        "created_at": AS_OF,
    }
    assert (shown["verdict"], shown["as_of"], shown["last_event_at"]) == ("unverified", AS_OF, None)


_states = st.dictionaries(st.sampled_from([*STATUSES, "pending_retry"]), st.integers(0, 1000))


@settings(deadline=None, derandomize=True)
@given(states=_states, open_count=st.integers(0, 1000))
def test_the_providers_identities_hold_for_any_counters(states: dict[str, int], open_count: int) -> None:
    total = sum(states.values()) + open_count
    counts = make_counts(total, outcomes=[outcome(*state) for state in states.items()])
    metrics: dict[str, Any] = msgspec.to_builtins(to_provider_metrics(counts))
    finals = ("completed", "busy", "failed", "no_answer", "socket_failure", "unreachable")
    assert metrics["total_processed"] == sum(metrics[f"{status}_count"] for status in finals)
    assert total == metrics["total_processed"] + metrics["in_progress_count"] + metrics["pending_retry_count"]
    assert metrics["success_count"] == metrics["completed_count"]
    assert metrics["success_rate"] == (round(100 * metrics["success_count"] / total, 1) if total else 0.0)

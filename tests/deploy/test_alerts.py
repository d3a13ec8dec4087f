"""Prometheus evaluates the alert rules: each fires for what it is for, and none on a healthy service."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
NAMES = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
RUNBOOK = "https://wiki.example.com/runbook.md"
INFO = {f'outcomes_runbook_info{{url="{RUNBOOK}"}}': "1x120"}
A, B = '{job="outcomes",instance="a"}', '{job="outcomes",instance="b"}'

# Minute by minute for two hours: "1x120" stays, "0+60x120" grows by 60 a minute.
HEALTHY = {
    f"up{A}": "1x120",
    f"up{B}": "1x120",
    'outcomes_webhooks_total{target="default",answer="stored"}': "0+60x120",
    'outcomes_webhooks_total{target="default",answer="overloaded"}': "7x120",
    "outcomes_healed_calls_total": "0+1x120",
    'probe_ssl_earliest_cert_expiry{job="outcomes-public",instance="https://x"}': f"{90 * 86_400}x120",
    'probe_success{job="outcomes-public",instance="https://x"}': "1x120",
    'outcomes_alarms{name="signatures_rejected"}': "0x120",
    'outcomes_alarms{name="drift"}': "0x120",
    'outcomes_commit_seconds_bucket{le="0.05"}': "0+60x120",
    'outcomes_commit_seconds_bucket{le="5"}': "0+60x120",
    'outcomes_commit_seconds_bucket{le="+Inf"}': "0+60x120",
    "outcomes_group_failures_total": "3x120",
    'outcomes_background_failures_total{task="reconciler"}': "1x120",
    'outcomes_webhook_seconds_bucket{answer="stored",le="0.1"}': "0+60x120",
    'outcomes_webhook_seconds_bucket{answer="stored",le="10"}': "0+60x120",
    'outcomes_webhook_seconds_bucket{answer="stored",le="+Inf"}': "0+60x120",
    "outcomes_backlog_events": "0 5x119",
    "outcomes_last_commit_timestamp_seconds": "0+60x120",
    'outcomes_loop_lag_seconds_bucket{instance="a",le="0.01"}': "0+60x120",
    'outcomes_loop_lag_seconds_bucket{instance="a",le="1"}': "0+60x120",
    'outcomes_loop_lag_seconds_bucket{instance="a",le="+Inf"}': "0+60x120",
    'outcomes_database_connections{instance="a",state="used"}': "5x120",
    'outcomes_database_connections_max{instance="a"}': "20x120",
    'outcomes_http_requests_total{route="/v1/batches",status="500"}': "2x120",
    'outcomes_http_requests_total{route="/v1/batches",status="200"}': "0+60x120",
    "outcomes_reconciliation_overdue_seconds": "30x120",
}

# What is otherwise than in a healthy service, the labels of the alert, and its summary.
CASES: dict[str, tuple[dict[str, str | None], dict[str, str], str, str]] = {
    "OutcomesDown": (
        {f"up{A}": None, f"up{B}": None}, {"severity": "page"},
        "No replica of the service answers Prometheus; the provider gives a webhook up after five and a half minutes",
        "service_down",
    ),
    "OutcomesReplicaDown": (
        {f"up{B}": "0x120"}, {"severity": "ticket", "job": "outcomes", "instance": "b"},
        "The replica b does not answer Prometheus", "service_down",
    ),
    "OutcomesNoWebhooks": (
        {'outcomes_webhooks_total{target="default",answer="stored"}': "9x120"}, {"severity": "page"},
        "Calls are being made, and no webhook has come for half an hour", "no_webhooks",
    ),
    "OutcomesCertificateExpires": (
        {'probe_ssl_earliest_cert_expiry{job="outcomes-public",instance="https://x"}': "93600x120"},
        {"severity": "ticket", "job": "outcomes-public", "instance": "https://x"},
        "The certificate of https://x expires in 1d 0h 0m 0s", "certificate_expires",
    ),
    "OutcomesPublicAddressFails": (
        {'probe_success{job="outcomes-public",instance="https://x"}': "0x120"},
        {"severity": "page", "job": "outcomes-public", "instance": "https://x"},
        "https://x cannot be reached as the provider reaches it", "no_webhooks",
    ),
    "OutcomesAlarm": (
        {'outcomes_alarms{name="signatures_rejected"}': "3x120"}, {"severity": "page", "name": "signatures_rejected"},
        "signatures_rejected: 3", "signatures_rejected",
    ),
    "OutcomesTicket": (
        {'outcomes_alarms{name="drift"}': "2x120"}, {"severity": "ticket", "name": "drift"}, "drift: 2", "drift",
    ),
    "OutcomesRefusesWebhooks": (
        {'outcomes_webhooks_total{target="default",answer="overloaded"}': "0+1x120"}, {"severity": "page"},
        "Webhooks are answered 503; the provider tries each three times in five and a half minutes", "overload",
    ),
    "OutcomesCommitsSlowly": (
        {'outcomes_commit_seconds_bucket{le="0.05"}': "0x120"}, {"severity": "ticket"},
        "A group of webhooks takes over a second to commit", "overload",
    ),
    "OutcomesGroupsFail": (
        {"outcomes_group_failures_total": "0+1x120"}, {"severity": "page"}, "Groups of webhooks cannot be written",
        "overload",
    ),
    "OutcomesBackgroundTaskDies": (
        {'outcomes_background_failures_total{task="reconciler"}': "0x110 1x10"},
        {"severity": "page", "task": "reconciler"}, "The task reconciler has died, and was started again",
        "background_dies",
    ),
    "OutcomesWebhooksSlow": (
        {'outcomes_webhook_seconds_bucket{answer="stored",le="0.1"}': "0x120"}, {"severity": "page"},
        "One webhook in a hundred takes over 5 s; the provider gives up at 10 s", "webhooks_slow",
    ),
    "OutcomesCommitsNothing": (
        {"outcomes_last_commit_timestamp_seconds": "60x120"}, {"severity": "page"},
        "Webhooks wait, and none has been committed for a minute", "commits_nothing",
    ),
    "OutcomesLoopLags": (
        {'outcomes_loop_lag_seconds_bucket{instance="a",le="0.01"}': "0x120"}, {"severity": "ticket", "instance": "a"},
        "The event loop of a is late by over a quarter of a second", "loop_lags",
    ),
    "OutcomesPoolUsedUp": (
        {'outcomes_database_connections{instance="a",state="used"}': "20x120"},
        {"severity": "ticket", "instance": "a"},
        "All connections of a for readers are in use", "pool_used_up",
    ),
    "OutcomesRequestsFail": (
        {'outcomes_http_requests_total{route="/v1/batches",status="500"}': "0+1x120"},
        {"severity": "ticket", "route": "/v1/batches"}, "/v1/batches is answered 500", "requests_fail",
    ),
    "OutcomesComparesLate": (
        {"outcomes_reconciliation_overdue_seconds": "2000x120"}, {"severity": "ticket"},
        "A batch has been due to be compared with the provider for over half an hour", "compares_late",
    ),
}  # fmt: skip


def make_test(name: str, series: dict[str, str], expected: dict[str, list[Any]]) -> dict[str, Any]:
    """A test that holds every rule to what is expected of it two hours after the series begin; nothing by default."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [
            {"eval_time": "2h", "alertname": rule, "exp_alerts": expected.get(rule, [])} for rule in NAMES
        ],
    }


def evaluate(folder: Path, tests: list[dict[str, Any]]) -> None:
    file = folder / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_fires_on_a_healthy_service(tmp_path: Path) -> None:
    evaluate(tmp_path, [make_test("healthy", HEALTHY, {})])


def test_every_rule_has_a_case() -> None:
    assert list(CASES) == NAMES


@pytest.mark.parametrize("info", [INFO, {}], ids=["with-a-runbook-address", "without"])
def test_each_rule_fires_alone_and_links_to_its_entry_of_the_runbook(tmp_path: Path, info: dict[str, str]) -> None:
    tests = []
    for name, (changed, labels, summary, anchor) in CASES.items():
        series = {key: values for key, values in (HEALTHY | changed).items() if values is not None}
        address = f"{RUNBOOK if info else 'docs/operate/runbook.md'}#{anchor}"
        alert = {"exp_labels": labels, "exp_annotations": {"summary": summary, "runbook_url": address}}
        tests.append(make_test(name, series | info, {name: [alert]}))
    evaluate(tmp_path, tests)

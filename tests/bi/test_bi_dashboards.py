"""The dashboards in ``deploy/`` work on the current BI schema: each query runs as ``bi_reader`` on batches that a
sandbox played, and returns data."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest
import yaml

from service.store.database import Database
from tests.bi.playing import LOSSY, MAIN, as_role, play_batches, roles_set_up
from tests.conftest import StartService
from tests.provider import START

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))}
PROVISIONED = {
    path.parent.name: yaml.safe_load(path.read_text()) for path in DEPLOY.glob("grafana/provisioning/*/*.yaml")
}
SUPERSET = DEPLOY / "superset" / "outcomes"
BEGIN = datetime.fromtimestamp(START, UTC) - timedelta(days=1)
END = datetime.now(UTC) + timedelta(days=1)
# The values that Grafana substitutes for its variables and macros (its documentation of the PostgreSQL data source).
VARIABLES = {"agent": "'123','124','125'", "batch": str(LOSSY), "time_zone": "Asia/Kolkata"}


class Query(NamedTuple):
    """A query of a dashboard, and its dashboard and panel."""

    place: str
    sql: str


def list_grafana_queries() -> Iterator[Query]:
    for name, dashboard in GRAFANA.items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield Query(f"{name}: ${variable['name']}", variable["query"])
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield Query(f"{name}: {panel['title']}", target["rawSql"])


def fill_in(sql: str) -> str:
    """The query as Grafana sends it; fails for a variable or macro that is unknown here."""
    begin, end = (f"'{moment.isoformat()}'" for moment in (BEGIN, END))
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 BETWEEN {begin} AND {end}", sql)
    sql = sql.replace("$__timeFrom()", begin).replace("$__timeTo()", end)
    sql = re.sub(r"\$(\w+)", lambda match: VARIABLES[match[1]], sql)
    assert "$" not in sql, sql
    return sql


def read_superset(kind: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in sorted((SUPERSET / kind).rglob("*.yaml"))]


def list_superset_queries() -> Iterator[Query]:
    """The query that Superset makes of each chart: its metrics, grouped, from the chart's dataset."""
    datasets = {dataset["uuid"]: dataset for dataset in read_superset("datasets")}
    for chart in read_superset("charts"):
        dataset, params = datasets[chart["dataset_uuid"]], chart["params"]
        metrics = {metric["metric_name"]: metric["expression"] for metric in dataset["metrics"]}
        columns = {
            column["column_name"]: column["expression"] or column["column_name"] for column in dataset["columns"]
        }
        shown = [*filter(None, [params.get("x_axis")]), *params.get("groupby", [])]
        measured = params.get("metrics", []) or [params["metric"]]
        fields = [f"{columns[name]} AS {name}" for name in shown] + [
            f"{metrics[name]} AS m_{name}" for name in measured
        ]
        grouping = f"GROUP BY {', '.join(str(n + 1) for n in range(len(shown)))}" if shown else ""
        begin, end = (f"'{moment.isoformat()}'" for moment in (BEGIN, END))
        subject = columns[params["adhoc_filters"][0]["subject"]]
        yield Query(
            f"superset: {chart['slice_name']}",
            f"SELECT {', '.join(fields)} FROM {dataset['schema']}.{dataset['table_name']} "
            f"WHERE {subject} >= {begin} AND {subject} < {end} {grouping} LIMIT {params.get('row_limit', 1000)}",
        )


@pytest.fixture
async def reader(
    start_service: StartService, database: Database, database_url: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection as bi_reader to batches that the sandbox played; one has drifted, so that there are differences."""
    async with play_batches(start_service), roles_set_up(database_url):
        difference = {"figure": "busy_count", "ours": 1, "theirs": 2, "allowed": False, "reason": "beyond_grace"}
        await database.pool.execute(
            "INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences, "
            "inconsistencies, calls_spent, healed) SELECT batch_key, now(), now(), 'drifted', '[]', $2, '[]', 1, 0 "
            "FROM batches WHERE batch_id = $1",
            MAIN, json.dumps([difference]),
        )  # fmt: skip
        async with as_role(database_url, "bi_reader") as connection:
            yield connection


async def test_every_query_of_every_dashboard_runs_as_the_reader_and_returns_data(
    reader: asyncpg.Connection,
) -> None:
    queries = [*list_grafana_queries(), *list_superset_queries()]
    assert len(queries) > 30
    empty = []
    for place, sql in queries:
        try:
            rows = await reader.fetch(fill_in(sql))
        except asyncpg.PostgresError as error:
            raise AssertionError(f"{place}: {error}\n{sql}") from error
        if not any(value is not None for row in rows for value in row.values()):
            empty.append(place)
    assert empty == []


async def test_the_figures_of_the_overview_are_the_sums_over_its_batches(reader: asyncpg.Connection) -> None:
    queries = dict(list_grafana_queries())
    (total,) = await reader.fetch(fill_in(queries["campaigns: Recipients"]))
    campaigns = await reader.fetch(fill_in(queries["campaigns: Campaigns"]))
    assert total["all"] == 60 + 80 + 30 == sum(row["recipients"] for row in campaigns)
    assert [(row["name"], row["batches"]) for row in campaigns if row["batches"] == 2] == [
        ("May", 2),
        ("March Follow Ups", 2),
    ]
    statuses = await reader.fetch(fill_in(queries["batch: Recipients by final status"]))
    assert sum(row["recipients"] for row in statuses) == 80


def test_queries_read_only_the_masked_schema() -> None:
    for place, sql in [*list_grafana_queries(), *list_superset_queries()]:
        relations = re.findall(r"(?:FROM|JOIN)\s+(?!LATERAL)([\w.]+)", re.sub(r"extract\(.*?\)", "", sql))
        assert relations, place
        assert all(name.startswith("bi.") for name in relations), (place, relations)


def test_grafanas_panels_are_complete_and_use_the_provisioned_data_source() -> None:
    (source,) = PROVISIONED["datasources"]["datasources"]
    assert source["user"] == "bi_reader"
    assert source["secureJsonData"] == {"password": "${OUTCOMES_BI_PASSWORD}"}
    (provider,) = PROVISIONED["dashboards"]["providers"]
    assert provider["type"] == "file"
    assert sorted(GRAFANA) == ["batch", "campaigns", "finality"]
    uids = {dashboard["uid"] for dashboard in GRAFANA.values()}
    for dashboard in GRAFANA.values():
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["title"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            for part in (panel, *panel["targets"]):
                assert part["datasource"] == {"type": source["type"], "uid": source["uid"]}
        linked = re.findall(r"/d/([\w-]+)\?", json.dumps(dashboard))
        assert set(linked) <= uids


def test_the_provisioned_names_come_from_the_environment() -> None:
    text = (DEPLOY / "grafana/provisioning/datasources/outcomes.yaml").read_text()
    assert re.findall(r"\$\{(\w+)\}", text) == [
        "OUTCOMES_BI_HOST", "OUTCOMES_BI_DATABASE", "OUTCOMES_BI_SSLMODE", "OUTCOMES_BI_PASSWORD",
    ]  # fmt: skip


async def test_supersets_files_refer_to_each_other_and_to_columns_of_the_views(database: Database) -> None:
    (source,) = read_superset("databases")
    datasets, charts, (dashboard,) = read_superset("datasets"), read_superset("charts"), read_superset("dashboards")
    assert yaml.safe_load((SUPERSET / "metadata.yaml").read_text())["type"] == "Dashboard"
    everything = [source, *datasets, *charts, dashboard]
    assert {file["version"] for file in everything} == {"1.0.0"}
    assert len({UUID(file["uuid"]) for file in everything}) == len(everything)
    assert "bi_reader:XXXXXXXXXX@" in source["sqlalchemy_uri"], "a password is asked for at the import"
    for dataset in datasets:
        assert dataset["database_uuid"] == source["uuid"]
        columns = await database.pool.fetch(
            "SELECT column_name AS name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 "
            "ORDER BY ordinal_position",
            dataset["schema"], dataset["table_name"],
        )  # fmt: skip
        physical = [column["column_name"] for column in dataset["columns"] if column["expression"] is None]
        assert physical == [row["name"] for row in columns], dataset["table_name"]
    assert {chart["dataset_uuid"] for chart in charts} <= {dataset["uuid"] for dataset in datasets}
    placed = {node["meta"]["uuid"] for node in dashboard["position"].values() if node_type(node) == "CHART"}
    assert placed == {chart["uuid"] for chart in charts}
    for filtering in dashboard["metadata"]["native_filter_configuration"]:
        assert {target["datasetUuid"] for target in filtering["targets"]} <= {dataset["uuid"] for dataset in datasets}


def node_type(node: object) -> str | None:
    return node.get("type") if isinstance(node, dict) else None

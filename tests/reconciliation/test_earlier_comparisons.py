"""Comparisons that an earlier version stored read like today's."""

import json
from typing import Any

import httpx

from service.store.database import Database
from service.store.migrations import read_migrations
from tests.factories import BATCH_ID, store_batch

EARLIER: dict[str, list[dict[str, Any]]] = {
    "reasons": [{"code": "not_told", "figure": "busy_count"}],
    "differences": [{"figure": "busy_count", "ours": 1, "theirs": None, "allowed": True, "reason": "not_told"}],
    "inconsistencies": [{"rule": "success_rate_is_success_of_total", "told": 60.0, "expected": 50.0}],
}


async def test_the_upgrade_says_reported_where_an_earlier_version_said_told(
    service: httpx.AsyncClient, database: Database
) -> None:
    key = await store_batch(database.url)
    await database.pool.execute(
        "INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences, "
        "inconsistencies, calls_spent, healed) VALUES ($1, now(), now(), 'unverified', $2, $3, $4, 1, 0)",
        key, *(json.dumps(part) for part in EARLIER.values()),
    )  # fmt: skip
    (migration,) = (file for file in read_migrations() if file.name == "0029_reported")
    await database.pool.execute(migration.text)
    shown = (await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes")).json()["data"]["reconciliation"]
    assert shown["reasons"] == [EARLIER["reasons"][0] | {"code": "not_reported"}]
    assert shown["differences"] == [EARLIER["differences"][0] | {"reason": "not_reported"}]
    assert shown["inconsistencies"] == [
        {"rule": "success_rate_is_success_of_total", "reported": 60.0, "expected": 50.0}
    ]

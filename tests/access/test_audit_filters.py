"""The audit log by action and actor, in pages of bounded cost."""

import httpx
import pytest

from service.access import http
from service.store.database import Database


async def fill(database: Database) -> None:
    await database.pool.execute(
        """INSERT INTO audit_log (actor, action, subject, outcome)
        SELECT CASE WHEN n % 2 = 0 THEN 'setting' ELSE 'key: crm' END,
               CASE WHEN n <= 2 THEN 'erasure' ELSE 'upload' END, 'upload ' || n, 'uploaded'
        FROM generate_series(1, 10) AS n"""
    )


async def test_lines_are_filtered_by_action_and_actor(service: httpx.AsyncClient, database: Database) -> None:
    await fill(database)
    cases = ({"action": "erasure"}, {"actor": "key: crm"}, {"action": "erasure", "actor": "setting"}, {"actor": "x"})
    found = [
        [line["audit_id"] for line in (await service.get("/v1/audit", params=case)).json()["data"]] for case in cases
    ]
    assert found == [[2, 1], [9, 7, 5, 3, 1], [2], []]


async def test_a_page_searches_so_many_lines_and_says_where_to_go_on(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database)
    monkeypatch.setattr(http, "SEARCHED", 4)
    found, after, pages = [], None, 0
    while True:
        query = {"action": "erasure"} | ({} if after is None else {"after": after})
        page = (await service.get("/v1/audit", params=query)).json()
        found += [line["audit_id"] for line in page["data"]]
        pages += 1
        if not page["has_more"]:
            break
        after = page["next"]
    assert (found, pages) == ([2, 1], 3)

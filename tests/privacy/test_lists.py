"""Erasures listed without the people, and what retention keeps and deleted last."""

import httpx

from service.privacy.retention import Retention
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.conftest import StartService
from tests.factories import make_payload
from tests.privacy.retaining import ingest_then


async def test_erasures_are_listed_newest_first_without_the_people(service: httpx.AsyncClient) -> None:
    for phone in ("+919812345670", "+919812345671"):
        assert (await service.post("/v1/erasures", json={"phone": phone})).status_code in {200, 202}
    page = await service.get("/v1/erasures", params={"limit": 1})
    assert [row["erasure_id"] for row in page.json()["data"]] == [2]
    rest = await service.get("/v1/erasures", params={"after": page.json()["next"]})
    assert [row["erasure_id"] for row in rest.json()["data"]] == [1]
    assert "98123" not in page.text + rest.text


async def test_retention_says_what_is_kept_and_when_some_was_deleted(
    start_service: StartService, database: Database
) -> None:
    await ingest_then(database, make_payload(recipient=None, agent_id=9))
    gone = await Retention(database, Metrics(), {"bodies": 90}).forget_all()
    async with start_service(OUTCOMES_KEEP_AUDIT_DAYS="7") as service:
        kept = {row["kind"]: row for row in (await service.get("/v1/retention")).json()["data"]}
    assert kept["audit"]["keep_days"] == 7
    assert (kept["bodies"]["keep_days"], kept["bodies"]["setting"]) == (0, "OUTCOMES_KEEP_BODIES_DAYS")
    assert (kept["rejected_rows"]["setting"], kept["audit"]["last_deleted_at"]) == (None, None)
    assert kept["bodies"]["last_deleted"] == gone["bodies"] > 0
    assert kept["bodies"]["last_deleted_at"] is not None

"""Quarantined bodies over HTTP: read as they came, and replayed together."""

import httpx

from service.store.database import Database
from tests.conftest import StartService
from tests.factories import encode, make_payload, store_batch
from tests.webhooks.quarantining import quarantine


async def test_a_body_is_answered_byte_for_byte_and_the_look_is_audited(
    service: httpx.AsyncClient, database: Database
) -> None:
    body = b'\xff\x00<script>alert(1)</script>\r\n"'
    quarantine_id = await quarantine(database, body)
    answer = await service.get(f"/v1/quarantine/{quarantine_id}/body")
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="quarantined-{quarantine_id}.bin"'
    assert (await service.get("/v1/quarantine/999/body")).status_code == 404
    (line,) = (await service.get("/v1/audit")).json()["data"]
    assert (line["action"], line["subject"]) == ("quarantine_read", f"quarantined {quarantine_id}")


async def test_the_body_of_an_erased_person_is_gone(service: httpx.AsyncClient, database: Database) -> None:
    quarantine_id = await quarantine(database, b"")
    await database.pool.execute("UPDATE quarantine SET erased_at = now()")
    assert (await service.get(f"/v1/quarantine/{quarantine_id}/body")).status_code == 404


async def test_all_bodies_are_replayed_in_bounded_steps(start_service: StartService, database: Database) -> None:
    await store_batch(database.url)
    for recipient in (1, 2):
        await quarantine(database, encode(make_payload(recipient=recipient)))
    hopeless = await quarantine(database, b"no event")
    async with start_service() as service:
        first = (await service.post("/v1/quarantine/replay", params={"limit": 2})).json()["data"]
        assert (first["replayed"], first["kept"]) == (2, 0)
        assert first["next"] is not None
        rest = (await service.post("/v1/quarantine/replay", params={"after": first["next"]})).json()["data"]
        assert rest == {"replayed": 0, "kept": 1, "next": None}
        waiting = (await service.get("/v1/quarantine")).json()["data"]
        assert [row["quarantine_id"] for row in waiting] == [hopeless]

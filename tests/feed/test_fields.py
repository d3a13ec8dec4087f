"""``GET /v1/fields``: the names that the feed's parameters and results really have, by agent."""

import asyncpg
import httpx
import pytest

from tests.conftest import StartService
from tests.factories import make_payload, post_webhook, store_batch
from tests.processes import OUTCOMES, run


async def call(service: httpx.AsyncClient, recipient: int, **fields: object) -> None:
    assert (await post_webhook(service, make_payload(recipient=recipient, **fields))).status_code == 204  # type: ignore[arg-type]


async def read(service: httpx.AsyncClient, **params: int) -> dict[int, tuple[list[str], list[str]]]:
    """Parameters and results by agent."""
    answer = await service.get("/v1/fields", params=params)
    assert answer.status_code == 200, answer.text
    return {each["agent_id"]: (each["parameters"], each["results"]) for each in answer.json()["data"]}


async def test_a_service_without_batches_has_no_fields(service: httpx.AsyncClient) -> None:
    assert (await service.get("/v1/fields")).json() == {"data": [], "next": None, "has_more": False}


async def test_an_agent_has_the_columns_of_its_files_and_the_results_that_were_seen(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url, 3)
    assert await read(service) == {123: (["loan_id"], [])}
    await call(service, 1, results={"intent": "pay", "mood": "good"})
    await call(service, 1, attempt=2, results={"intent": "refuse"})  # "mood" was seen, and may be seen again
    assert await read(service) == {123: (["loan_id"], ["intent", "mood"])}


async def test_agents_are_apart_and_come_page_by_page(service: httpx.AsyncClient, database_url: str) -> None:
    for number, agent_id in enumerate((5, 7, 9)):
        for batch in (0, 1):
            token = f"feed{number}{batch}"
            await store_batch(
                database_url, 1, batch_id=10 * number + batch, ref_token=token, agent_id=agent_id, first_phone=number
            )
            await call(service, 1, agent_id=agent_id, ref_token=token, results={f"r{agent_id}_{batch}": 1})
    wanted = {agent: (["loan_id"], [f"r{agent}_0", f"r{agent}_1"]) for agent in (5, 7, 9)}
    assert await read(service) == wanted
    for agent, fields in wanted.items():
        assert await read(service, agent_id=agent) == {agent: fields}
    assert await read(service, agent_id=6) == {}
    first = (await service.get("/v1/fields", params={"limit": 2})).json()
    assert (len(first["data"]), first["next"], first["has_more"]) == (2, 7, True)
    assert await read(service, after=7) == {9: wanted[9]}


async def test_a_batch_whose_file_is_not_known_has_what_its_recipients_have(
    service: httpx.AsyncClient, database_url: str
) -> None:
    key = await store_batch(database_url, 3)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE batches SET is_registered = false, columns = '{}' WHERE batch_key = $1", key)
    await connection.execute(
        "UPDATE recipients SET parameters = jsonb_build_object('p' || recipient_no, 1) WHERE batch_key = $1", key
    )
    await connection.close()
    assert await read(service) == {123: (["p1", "p2", "p3"], [])}


@pytest.mark.parametrize(("scope", "status"), [("feed", 200), ("read", 403)])
async def test_a_key_with_the_scope_feed_reads_them(
    start_service: StartService, database_url: str, scope: str, status: int
) -> None:
    made = await run(OUTCOMES, "keys", "create", scope, "--scope", scope, OUTCOMES_DATABASE_URL=database_url)
    async with start_service() as service:
        answer = await service.get("/v1/fields", headers={"authorization": f"Bearer {made.output.strip()}"})
        assert answer.status_code == status

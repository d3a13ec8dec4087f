"""Asked for an earlier time, the service repeats its answer of that time, whatever has arrived or moved since."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.sandbox import sample_contacts
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import BATCH_ID, make_payload, post_webhook, store_batch
from tests.guarantees.healing import write_all_webhooks
from tests.provider import connect_provider, upload
from tests.uploads.dashboard import discover, hold_discovery, make_elsewhere, put

FIRST = "customer_phone,loan_id\n" + "".join(f"+91987650001{n},A{n}\n" for n in range(8)) + "+919876500011,B\n"
SECOND = "customer_phone,loan_id\n+919876500003,C\n+919876500004,D\n"
NOT_KEPT = ("version", "details_outstanding", "details_expected_at")


class Notebook:
    """Records the answers of the service and their times."""

    def __init__(self, service: httpx.AsyncClient, database: Database, batches: list[int]) -> None:
        self._service = service
        self._database = database
        self._batches = batches
        self._notes: list[tuple[datetime, dict[str, Any]]] = []

    async def record(self) -> None:
        """Records all answers and the present time; nothing else happens meanwhile."""
        answers = await self._ask({})
        moment = await self._database.pool.fetchval("SELECT clock_timestamp()")
        self._notes.append((moment, answers))

    async def compare(self) -> int:
        """Asks again as of each recorded time, and asserts the same answers; returns their number."""
        for moment, answers in self._notes:
            assert await self._ask({"as_of": moment.isoformat()}) == answers
        return sum(len(answers) for _, answers in self._notes)

    async def _ask(self, params: dict[str, Any]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for batch_id in self._batches:
            for path in ("outcomes", "recipients", "recipients?state=busy", "recipients/1", "recipients/2"):
                url = httpx.URL(f"/v1/batch-calls/{batch_id}/{path}")
                answer = await self._service.get(url.copy_merge_params(params))
                content = answer.json() if answer.status_code == 200 else answer.status_code
                answers[f"{batch_id}/{path}"] = _strip(content)
        return answers


def _strip(content: Any) -> Any:
    """Drops the time of the answer, and fields whose history is not kept."""
    if isinstance(content, dict):
        return {name: _strip(value) for name, value in content.items() if name not in ("as_of", *NOT_KEPT)}
    return [_strip(value) for value in content] if isinstance(content, list) else content


async def reconcile(service: httpx.AsyncClient, batch_id: int) -> None:
    """Compares and heals a batch, with the details of its calls."""
    path = f"/v1/batch-calls/{batch_id}/reconcile"
    await service.post(path)
    await eventually(lambda: service.get(path), lambda answer: answer.json()["data"]["state"] == "idle")


async def test_each_answer_is_repeated_as_of_its_time(start_service: StartService, database: Database) -> None:
    await hold_discovery(database)
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        playing, faults = sandbox.sandbox, sandbox.sandbox.faults
        book = Notebook(service, database, [456, 457, 458, 459, 460])
        await book.record()  # no event yet
        faults.drop = 0.4
        await make_elsewhere(sandbox, FIRST)
        await discover(database, sandbox)
        await playing.wait_until_done(456)
        await book.record()  # some calls placed in the window, others lost
        await reconcile(service, 456)
        await book.record()  # healed
        for body in await write_all_webhooks(sandbox, 456):
            assert (await post_webhook(service, body)).status_code == 204
            await book.record()  # late webhooks, parameters among them, and duplicates

        await upload(service, sample_contacts(12, seed=9), test_recipients="5")
        await playing.wait_until_done(457)
        await book.record()  # a test batch, its main batch held
        await reconcile(service, 457)
        await book.record()
        await service.post("/v1/batch-calls/457/promote")
        await playing.wait_until_done(458)
        await book.record()

        faults.drop = 0.0
        await make_elsewhere(sandbox, SECOND, "Other")
        await playing.wait_until_done(459)
        await book.record()  # guessed to belong to the window of the first batch
        await discover(database, sandbox)
        await book.record()  # the guess is taken back
        for batch_id, content in ((456, FIRST), (459, SECOND)):
            answer = await put(service, content, f"/v1/batch-calls/{batch_id}/recipients")
            assert answer.status_code == 200, answer.text
            await book.record()  # a CSV is registered
        for _ in range(3):  # the second comparison finds the same as the first
            for batch_id in (456, 458, 459):
                await reconcile(service, batch_id)
            await book.record()
        assert await database.pool.fetchval("SELECT count(*) FROM past_facts") > 0
        assert await database.pool.fetchval("SELECT count(*) FROM recipients WHERE parameters_known_at IS NOT NULL") > 0
        assert await database.pool.fetchval("SELECT count(*) FROM facts WHERE source = 'healed'") > 0
        assert await book.compare() > 300


@pytest.mark.parametrize("path", ["outcomes", "recipients", "recipients/1"])
async def test_a_time_outside_the_kept_history_is_refused(
    service: httpx.AsyncClient, database: Database, path: str
) -> None:
    before = datetime.now(UTC)
    await store_batch(database.url, 3)
    url = f"/v1/batch-calls/{BATCH_ID}/{path}"
    for value in (
        "",
        "yesterday",
        "2026-03-16",
        "2026-03-16T10:30:00",
        "12",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
    ):
        answer = await service.get(url, params={"as_of": value})
        assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, "as_of"), value
    future = await service.get(url, params={"as_of": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    assert (future.status_code, "in the future" in future.json()["error"]["message"]) == (400, True)
    early = await service.get(url, params={"as_of": before.isoformat()})
    assert (early.status_code, "was not known here" in early.json()["error"]["message"]) == (404, True)
    unknown = await service.get(f"/v1/batch-calls/999/{path}", params={"as_of": before.isoformat()})
    assert unknown.status_code == 404
    assert (await service.get(url, params={"as_of": datetime.now(UTC).isoformat()})).status_code == 200


async def test_a_plus_sign_that_arrives_as_a_space_is_read_as_a_plus_sign(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url, 3)
    now = datetime.now(UTC)
    for text in (now.isoformat(), now.isoformat().replace("+00:00", "Z")):
        answer = await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes?as_of={text}")  # an unescaped plus sign
        assert answer.status_code == 200, answer.text
        assert datetime.fromisoformat(answer.json()["data"]["as_of"]) == now


async def test_a_recount_in_several_steps_gives_the_same_answers(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database.url, 12)
    for number in range(1, 12):
        payload = make_payload(recipient=number, status="busy" if number % 3 else "completed", attempt=number % 2 + 1)
        assert (await post_webhook(service, payload)).status_code == 204
    book = Notebook(service, database, [BATCH_ID])
    await book.record()
    assert (await post_webhook(service, make_payload(recipient=12))).status_code == 204
    for step in (1, 5, 5000):
        monkeypatch.setattr("service.outcomes.as_of.STEP_RECIPIENTS", step)
        assert await book.compare() == 5

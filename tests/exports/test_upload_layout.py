"""A batch's recipients as a file that can be uploaded again."""

import csv
import io

import httpx
import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.factories import make_payload, post_webhook
from tests.provider import connect_provider, upload
from tests.uploads.dashboard import make_elsewhere
from tests.uploads.sampling import FILE, phones_of

ODD = (
    "note,customer_phone,sum\n"
    '=1+1,+919876543210,"a, b"\n'
    '-5,+919876543211,"two\nlines"\n'
    "@x,+919876543212,\n"
    "José 👋,+919876543213,'00123\n"
)


def read_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def download(service: httpx.AsyncClient, batch_id: int, **params: str) -> httpx.Response:
    answer = await service.get(f"/v1/batch-calls/{batch_id}/recipients.csv", params={"layout": "upload", **params})
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_batch_can_be_downloaded_and_uploaded_again_as_it_was(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        first = (await upload(service, ODD)).json()["data"]["id"]
        answer = await download(service, first)
        assert 'filename="batch-456-recipients-upload.csv"' in answer.headers["content-disposition"]
        assert answer.text.splitlines()[0] == "customer_phone,note,sum"
        assert read_rows(answer.text) == [
            {"customer_phone": row["customer_phone"], "note": row["note"], "sum": row["sum"]} for row in read_rows(ODD)
        ]
        again = await upload(service, answer.content, name="April")
        assert again.status_code == 200, again.text
        second = again.json()["data"]["id"]
        assert (await download(service, second)).text == answer.text
        assert phones_of(sandbox, second) == phones_of(sandbox, first)


async def test_the_people_of_one_state_can_be_uploaded_again(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        batch = (await upload(service, FILE)).json()["data"]["id"]
        people = read_rows(FILE)
        for row, status in ((people[3], "no_answer"), (people[7], "no_answer"), (people[9], "completed")):
            (parameters,) = [
                one["parameters"]
                for one in (await service.get(f"/v1/batch-calls/{batch}/recipients?limit=100")).json()["data"]
                if one["phone"] == row["customer_phone"]
            ]
            payload = make_payload(status=status, phone=row["customer_phone"], parameters=parameters)
            assert (await post_webhook(service, payload)).status_code == 204
        answer = await download(service, batch, state="no_answer")
        assert [row["customer_phone"] for row in read_rows(answer.text)] == [
            people[3]["customer_phone"], people[7]["customer_phone"],
        ]  # fmt: skip
        assert (await upload(service, answer.content, name="Again")).json()["data"]["total_recipients"] == 2


async def test_who_is_erased_or_withdrawn_is_not_in_the_file(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, _):
        batch = (await upload(service, FILE)).json()["data"]["id"]
        people = [row["customer_phone"] for row in read_rows(FILE)]
        await service.post("/v1/erasures", json={"phone": people[5]})
        await database.pool.execute("UPDATE recipients SET withdrawn_at = now() WHERE phone = $1", people[7])
        phones = [row["customer_phone"] for row in read_rows((await download(service, batch)).text)]
        assert phones == [phone for phone in people if phone not in {people[5], people[7]}]


@pytest.mark.parametrize(
    ("file_format", "params", "problem"),
    [("ndjson", {}, "layout: is only for csv"), ("csv", {"formulas": "escape"}, "formulas: is not for"),
     ("csv", {"layout": "other"}, "layout: takes")],
)  # fmt: skip
async def test_what_an_upload_does_not_take_is_refused(
    start_service: StartService, file_format: str, params: dict[str, str], problem: str
) -> None:
    async with connect_provider(start_service) as (service, _):
        path = f"/v1/batch-calls/1/recipients.{file_format}"
        answer = await service.get(path, params={"layout": "upload", **params})
        assert (answer.status_code, answer.json()["error"]["message"].startswith(problem)) == (400, True)


async def test_a_batch_without_known_columns_says_what_to_do(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        batch = await make_elsewhere(sandbox, FILE)
        assert (await service.get(f"/v1/batch-calls/{batch}")).status_code == 200
        answer = await service.get(f"/v1/batch-calls/{batch}/recipients.csv", params={"layout": "upload"})
        assert (answer.status_code, "register the batch's CSV" in answer.json()["error"]["message"]) == (409, True)

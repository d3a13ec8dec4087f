"""A dry run answers the full report on a file, and stores and sends nothing."""

from service.store.database import Database
from tests.conftest import StartService
from tests.provider import CONTACTS, connect_provider, count_uploads, upload


async def test_a_good_file_is_reported_and_nothing_happens(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await upload(service, dry_run="true")
        report = answer.json()["data"]
        assert (answer.status_code, report["valid"], report["recipients"], report["error_count"]) == (200, True, 2, 0)
        assert report["columns"] == ["customer_phone", "customer_name", "loan_id", "due_amount"]
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0
        assert await database.pool.fetchval("SELECT count(*) FROM agent_columns") == 0
        assert count_uploads(sandbox) == (0, 0)
        assert (await upload(service)).status_code == 200


async def test_a_dry_run_may_be_asked_for_in_the_query_too(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        files = {"file": ("contacts.csv", CONTACTS, "text/csv")}
        data = {"agent_id": "123", "name": "March"}
        answer = await service.post("/v1/batch-call?dry_run=true", data=data, files=files)
        assert answer.json()["data"]["valid"] is True
        wrong = await service.post("/v1/batch-call?dry_run=perhaps", data=data, files=files)
        assert (wrong.status_code, wrong.json()["error"]["message"]) == (400, "dry_run: takes true or false")
        assert count_uploads(sandbox) == (0, 0)


async def test_every_error_of_a_bad_file_is_listed_with_its_line_and_no_value_in_clear(
    start_service: StartService,
) -> None:
    rows = [
        "+919812345670,Rahul",
        "09812345671,Anita",
        "+919812345672,Eve",
        "+91981234567x,Ravi",
        "+919812345670,Again",
    ]
    content = "customer_phone,customer_name\n" + "\n".join(rows) + "\n"
    async with connect_provider(start_service) as (service, _):
        report = (await upload(service, content, dry_run="true")).json()["data"]
        assert (report["valid"], report["error_count"]) == (False, 3)
        assert [(error["line"], error["column"]) for error in report["errors"]] == [
            (3, "customer_phone"),
            (5, "customer_phone"),
            (6, "customer_phone"),
        ]
        assert all(error["problem"] and error["remedy"] for error in report["errors"])
        for clear in ("981234567", "Anita", "Again"):
            assert clear not in str(report)
        refused = await upload(service, content)
        assert (refused.status_code, refused.json()["error"]["details"]["report"]["error_count"]) == (400, 3)
        first = (
            await upload(service, content.replace("x,", "9,").replace("\n09", "\n+919"), duplicates="first")
        ).json()
        assert first["data"]["total_recipients"] == 4


async def test_no_more_than_a_hundred_errors_are_listed_and_all_are_counted(start_service: StartService) -> None:
    content = "customer_phone\n" + "12\n" * 500
    async with connect_provider(start_service) as (service, _):
        report = (await upload(service, content, dry_run="true")).json()["data"]
        assert (report["error_count"], len(report["errors"])) == (500, 100)


async def test_columns_that_would_be_refused_are_reported(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service)).status_code == 200
        renamed = CONTACTS.replace("loan_id", "Loan_ID")
        report = (await upload(service, renamed, dry_run="true")).json()["data"]
        assert (report["valid"], report["error_count"]) == (False, 0)
        assert "did you mean 'loan_id'?" in report["columns_refused"]
        accepted = (await upload(service, renamed, dry_run="true", accept_columns="true")).json()["data"]
        assert accepted["valid"] is True


async def test_an_agent_is_doubted_until_the_provider_has_a_batch_of_it(start_service: StartService) -> None:
    options = {"agents": frozenset({123})}
    async with connect_provider(start_service, options=options) as (service, sandbox):
        for agent_id, status, is_doubted in (("124", 404, True), ("123", 200, False)):
            first = (await upload(service, dry_run="true", agent_id=agent_id)).json()["data"]
            doubt = f"No batch of agent {agent_id} is known yet: check its number before people are called"
            assert (first["valid"], first["agent_unknown"]) == (True, doubt)
            assert (await upload(service, agent_id=agent_id)).status_code == status
            again = (await upload(service, dry_run="true", agent_id=agent_id)).json()["data"]
            assert (again["agent_unknown"] is not None) is is_doubted
        assert count_uploads(sandbox) == (1, 1)

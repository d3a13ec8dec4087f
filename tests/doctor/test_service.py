"""The running service and its work: not there, another version, not ready, behind; and the alarms that are on."""

from datetime import UTC, datetime, timedelta

from service.doctor.findings import Level
from service.store.database import Database
from tests.conftest import StartService
from tests.doctor.examining import examine, find, find_one, list_troubles
from tests.doctor.http_server import answer, answering
from tests.factories import make_payload, phone_of, post_webhook, store_batch
from tests.processes import OUTCOMES, run

DUE = {"FORMANT_API_KEY": "x", "FORMANT_BASE_URL": "http://127.0.0.1:9"}


async def test_a_service_that_is_not_there_is_a_problem_unless_it_was_left_out(database_url: str) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_PORT": "9"}
    missing = await run(OUTCOMES, "doctor", **settings)
    assert missing.status == 1
    (line,) = [line for line in list_troubles(missing.output) if "service.answer" in line]
    assert line.startswith("problem")
    assert "outcomes serve" in line
    left_out = await run(OUTCOMES, "doctor", "--no-service", **settings)
    assert ("service.answer" in left_out.output, "ok        database.schema" in left_out.output) == (False, True)
    assert [line for line in list_troubles(left_out.output) if line.startswith("problem")] == []
    assert left_out.status == (1 if "\nproblem" in left_out.output else 0)


async def test_another_program_at_its_address_is_reported() -> None:
    async with answering(lambda _: answer(200, "Welcome")) as url:
        found = find_one(await examine(None, service_url=url), "service.answer", Level.PROBLEM)
    assert ("Another program answers there" in found.message, "--url" in found.remedy) == (True, True)


async def test_another_version_one_that_cannot_commit_and_a_backlog_are_reported() -> None:
    def make(request: bytes) -> bytes:
        path = request.split()[1].decode()
        bodies = {
            "/healthz": (200, '{"status":"ok"}'),
            "/readyz": (503, '{"status":"the database does not commit"}'),
            "/openapi.json": (200, '{"info": {"version": "0.0.9"}}'),
            "/metrics": (200, "# HELP x\noutcomes_backlog_events 20000.0\n"),
        }
        return answer(*bodies[path])

    async with answering(make) as url:
        alive, ready, version, backlog, verified = find(await examine(None, service_url=url), "service.answer")
    assert alive.level is Level.OK
    assert (ready.level, "runbook" in ready.remedy) == (Level.PROBLEM, True)
    assert (version.level, "0.0.9" in version.message, "upgrade" in version.remedy) == (Level.WARNING, True, True)
    assert verified.message.endswith("verified none; 0 refused for their signature")
    assert (backlog.level, "20,000 events" in backlog.message) == (Level.WARNING, True)


async def test_a_running_service_is_asked_all_of_it(start_service: StartService) -> None:
    async with start_service() as service:
        assert (await post_webhook(service, make_payload())).status_code == 204
        assert (await post_webhook(service, make_payload(), secret="wrong")).status_code == 401
        report = find(await examine(None, service_url=str(service.base_url)), "service.answer")
    assert [finding.level for finding in report] == [Level.OK] * 5
    assert "verified 1 by secret 1 of default; 1 refused" in report[-1].message


async def test_alarms_are_reported_with_their_remedies_and_pages_are_problems(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url, 3, batch_id=None)
    await database.pool.execute("UPDATE batches SET upload_state = 'unknown'")
    async with start_service() as service:
        assert (await post_webhook(service, b"no JSON")).status_code == 204
        assert (
            await post_webhook(service, make_payload(recipient=None, phone=phone_of(9), agent_id=8))
        ).status_code == 204
    findings = await examine(database.url)
    assert "answer the question under Uploads" in find_one(findings, "work.alarms", Level.PROBLEM).remedy
    tickets = [finding for finding in find(findings, "work.alarms") if finding.level is Level.WARNING]
    assert {finding.message.split()[0] for finding in tickets} == {"quarantine_not_empty", "unattributed_events"}
    assert all(f"See {finding.message.split()[0]} in docs/operate/runbook.md" in finding.remedy for finding in tickets)
    waiting = find(findings, "work.waiting")[0]
    assert waiting.message.startswith("Quarantined 1, unattributed 1, unknown uploads 1")
    assert phone_of(9) not in str(findings)


async def test_reconciliation_that_takes_no_turns_is_reported(database: Database) -> None:
    key = await store_batch(database.url, 3)
    await database.pool.execute("INSERT INTO batch_schedules (batch_key, due_at) VALUES ($1, now())", key)
    assert find(await examine(database.url, DUE), "work.waiting")[1].level is Level.OK
    for late, level in ((timedelta(minutes=30), Level.WARNING), (timedelta(hours=2), Level.PROBLEM)):
        await database.pool.execute("UPDATE batch_schedules SET due_at = $1", datetime.now(UTC) - late)
        found = find(await examine(database.url, DUE), "work.waiting")[1]
        assert (found.level, "FORMANT_API_KEY" in found.remedy) == (level, True)
    assert find(await examine(database.url), "work.waiting")[1].level is Level.UNCHECKED


async def test_a_consumer_that_does_not_keep_up_is_reported(service: object, database: Database) -> None:
    key = await store_batch(database.url, 3)
    await database.pool.execute("INSERT INTO feed_consumers (name, position) VALUES ('crm', 0)")
    assert find_one(await examine(database.url), "work.consumers", Level.OK)
    await database.pool.execute(
        "INSERT INTO outcomes VALUES ($1, 1, 'completed', 1, 1, nextval('feed_positions'), 1, now() - interval '2 h')",
        key,
    )
    found = find_one(await examine(database.url), "work.consumers", Level.WARNING)
    assert ("crm is 1 entry and 2 h behind" in found.message, "DELETE" in found.remedy) == (True, True)

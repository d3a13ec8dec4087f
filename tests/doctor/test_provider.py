"""The provider: refusals, failures, redirects, spent limits and impostors are reported with their remedies."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from service.doctor.findings import Finding, Level
from service.sandbox import Faults, SandboxOptions, serve_sandbox
from service.store.database import Database
from tests.certificates import make_certificate
from tests.doctor.examining import examine, find, find_one
from tests.doctor.http_server import answer, answering

KEY = "provider-key-of-ours"


async def ask_sandbox(database: Database | None, key: str = KEY, faults: Faults | None = None) -> list[Finding]:
    """What is found when a sandbox is the provider."""
    options = SandboxOptions(api_keys=(KEY,))
    async with serve_sandbox(options, port=0, faults=faults or Faults()) as sandbox:
        settings = {"FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": key}
        return find(await examine(None if database is None else database.url, settings), "provider.answer")


async def test_the_key_is_accepted_and_the_call_is_taken_from_the_budget(database: Database) -> None:
    answers, limits = await ask_sandbox(database)
    assert (answers.level, limits.level) == (Level.OK, Level.OK)
    assert "49 of 50 calls" in limits.message
    assert await database.pool.fetchval("SELECT remaining FROM provider_budgets") == 49


async def test_without_a_database_the_provider_is_asked_all_the_same() -> None:
    assert (await ask_sandbox(None))[0].level is Level.OK


async def test_a_key_that_is_refused_is_a_problem(database: Database) -> None:
    (found,) = await ask_sandbox(database, "some-other-key")
    assert (found.level, "401" in found.message) == (Level.PROBLEM, True)
    assert "FORMANT_API_KEY" in found.remedy
    assert "some-other-key" not in str(found)


async def test_a_provider_that_fails_or_has_no_call_left_is_reported(database: Database) -> None:
    (found,) = await ask_sandbox(database, faults=Faults(api_500=1.0))
    assert (found.level, "500" in found.message, "status page" in found.remedy) == (Level.PROBLEM, True, True)
    (found,) = await ask_sandbox(database, faults=Faults(api_429=1.0))
    assert (found.level, "429" in found.message) == (Level.WARNING, True)


async def test_while_nobody_may_call_the_doctor_does_not_either(database: Database) -> None:
    await ask_sandbox(database)
    await database.pool.execute("UPDATE provider_budgets SET failures = 5, blocked_until = now() + interval '1 hour'")
    account = await database.pool.fetchval("SELECT account FROM provider_budgets")
    async with serve_sandbox(SandboxOptions(api_keys=(KEY,)), port=0) as sandbox:
        settings = {"FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY}
        await examine(database.url, settings)
        await database.pool.execute("DELETE FROM provider_budgets WHERE account = $1", account)
        await database.pool.execute(
            "UPDATE provider_budgets SET failures = 5, blocked_until = now() + interval '1 hour'"
        )
        called = sandbox.sandbox.journal.api["within_limit"]
        found = find_one(await examine(database.url, settings), "provider.answer", Level.WARNING)
        assert sandbox.sandbox.journal.api["within_limit"] == called
    assert ("not called for now" in found.message, "provider_unreachable" in found.remedy) == (True, True)


@pytest.mark.parametrize(
    ("given", "message", "remedy"),
    [
        (answer(301, "", "location: https://elsewhere.example/"), "redirects (301)", "FORMANT_BASE_URL"),
        (answer(200, "<html>"), "not the provider's API", "FORMANT_BASE_URL"),
        (answer(502, ""), "answers 502", "status page"),
        (b"nonsense\r\n\r\n", "does not answer", "FORMANT_BASE_URL"),
    ],
)
async def test_another_program_at_the_address_is_reported(given: bytes, message: str, remedy: str) -> None:
    async with answering(lambda _: given) as url:
        report = find(await examine(None, FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY), "provider.answer")
    assert (report[0].level, message in report[0].message, remedy in report[0].remedy) == (Level.PROBLEM, True, True)


async def test_a_clock_of_the_providers_that_is_off_and_missing_limits_are_reported() -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=5), usegmt=True)
    async with answering(lambda _: answer(200, '{"data": []}', f"date: {date}")) as url:
        answers, limits, clock = find(await examine(None, FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY), "provider.answer")
    assert answers.level is Level.OK
    assert (limits.level, "proxy" in limits.remedy) == (Level.WARNING, True)
    assert (clock.level, "5 min behind ours" in clock.message) == (Level.PROBLEM, True)


async def test_a_certificate_that_does_not_hold_and_one_that_ends_soon_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path, "provider", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with answering(lambda _: answer(200, '{"data": []}', "x-ratelimit-limit: 50"), context) as url:
        settings = {"FORMANT_BASE_URL": url, "FORMANT_API_KEY": KEY}
        (found,) = find(await examine(None, settings), "provider.answer")
        assert (found.level, "certificate is of an unknown authority" in found.message) == (Level.PROBLEM, True)
        assert "SSL_CERT_FILE" in found.remedy
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        found = find_one(await examine(None, settings), "provider.answer", Level.WARNING)
    assert (found.message, found.remedy) == ("The provider's certificate expires in 1 day", "Renew it")

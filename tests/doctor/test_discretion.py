"""What the doctor prints holds no secret and no person, whatever goes wrong; and no check that fails hides another."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.commands.doctor import print_lines
from service.doctor import schema, work
from service.doctor.examination import Result
from service.doctor.findings import Finding, Level
from service.store.database import Database
from tests.conftest import StartService
from tests.doctor.examining import examine, find, find_one
from tests.factories import make_payload, post_webhook, store_batch
from tests.processes import OUTCOMES, run

PHONE = "+919876500001"
NAME = "Rahul-the-customer"
PASSWORD, API_KEY = "a-pass-word-of-ours", "an-api-key-of-ours-000000"
PROVIDER_KEY, SECRET = "a-provider-key", "a-webhook-secret-of-ours"


async def test_no_secret_and_no_person_is_in_what_it_prints(
    start_service: StartService, database: Database, database_url: str
) -> None:
    await store_batch(database_url, 3)
    with_password = database_url.replace("//postgres@", f"//postgres:{PASSWORD}@")
    settings = {
        "OUTCOMES_API_KEY": API_KEY,
        "FORMANT_API_KEY": PROVIDER_KEY,
        "FORMANT_WEBHOOK_SECRET": SECRET,
        "FORMANT_BASE_URL": f"http://user:{PASSWORD}@127.0.0.1:9",
    }
    async with start_service() as service:
        for payload in (
            make_payload(recipient=1, phone=PHONE, parameters={"customer_name": NAME}),
            make_payload(recipient=None, phone=PHONE, parameters={"customer_name": NAME}, agent_id=4),
        ):
            assert (await post_webhook(service, payload)).status_code == 204
        assert (await post_webhook(service, f"no JSON of {NAME} {PHONE}".encode())).status_code == 204
        asked = ("--url", str(service.base_url), "--webhook-url", f"{service.base_url}/webhooks/formant")
        for url in (with_password, f"postgresql://bob:{PASSWORD}@127.0.0.1:1/x", f"postgresql://bob:{PASSWORD}@[::/x"):
            for form in ((), ("--json",)):
                report = await run(OUTCOMES, "doctor", *asked, *form, OUTCOMES_DATABASE_URL=url, **settings)
                assert report.status == 1
                assert "provider.answer" in report.output
                for secret in (PASSWORD, API_KEY, PROVIDER_KEY, SECRET, PHONE, PHONE[1:], NAME):
                    assert secret not in report.output + report.errors, secret
                assert report.errors == ""


async def test_a_secret_that_slips_into_a_finding_is_blotted_out() -> None:
    findings = await examine(None, OUTCOMES_TARGETS_FILE=f"/nowhere/{SECRET}", FORMANT_WEBHOOK_SECRET=SECRET)
    assert "/nowhere/…" in find_one(findings, "configuration.webhook_secrets", Level.PROBLEM).message
    assert SECRET not in str(findings)


async def test_a_check_that_fails_or_hangs_is_reported_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    async def fail(*_: object) -> list[Finding]:
        raise RuntimeError(f"of {PHONE}")

    async def hang(*_: object) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(schema, "check_role", fail)
    monkeypatch.setattr(work, "check_alarms", hang)
    findings = await examine(database_url, limits={"check_seconds": 1.0})
    failed = find_one(findings, "database.role", Level.PROBLEM)
    assert ("RuntimeError" in failed.message, PHONE in str(findings)) == (True, False)
    assert find_one(findings, "work.alarms", Level.PROBLEM).message == "No answer within 1 s"
    assert find_one(findings, "work.consumers", Level.OK)
    assert find(findings, "webhooks.last")


async def test_lines_are_plain_and_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://" + "x" * 80
    message, remedy = "[red]x[/red] " * 9 + "end", f"Do [this] --with-an-option {'and more ' * 9}at {address}"

    async def give() -> AsyncIterator[Result]:
        yield Result("area.subject", Finding(Level.WARNING, message, remedy))
        yield Result("area.other", Finding(Level.OK, "fine"))

    assert await print_lines(give()) == 0
    output: str = capsys.readouterr().out
    assert (
        output
        == f"""\
warning   area.subject                  [red]x[/red] [red]x[/red] [red]x[/red]
                                        [red]x[/red] [red]x[/red] [red]x[/red]
                                        [red]x[/red] [red]x[/red] [red]x[/red]
                                        end
          → Do [this] --with-an-option and more and more and more and more and
            more and more and more and more and more at
            {address}
ok        area.other                    fine
1 ok, 0 unchecked, 1 warning, 0 problems
"""
    )

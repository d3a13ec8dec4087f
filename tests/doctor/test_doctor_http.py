"""The doctor over HTTP: the serving process examines itself."""

from tests.conftest import StartService
from tests.doctor.examining import STRONG_KEY, STRONG_SECRET


async def test_the_report_has_the_findings_and_no_secrets_and_is_shared(start_service: StartService) -> None:
    async with start_service(FORMANT_WEBHOOK_SECRET=f"{STRONG_SECRET},short") as service:
        answer = await service.get("/v1/doctor")
        report = answer.json()["data"]
        again = (await service.get("/v1/doctor")).json()["data"]
    checks = {each["check"]: each for each in report["findings"]}
    assert {"database.answer", "database.commit", "database.schema", "work.alarms", "provider.answer"} <= checks.keys()
    assert not {"configuration.settings", "configuration.secret_files", "service.answer"} & checks.keys()
    assert any("fewer than 16 characters" in each["message"] for each in report["findings"])
    assert sum(report["counts"].values()) == len(report["findings"])
    assert again == report
    for secret in (STRONG_SECRET, STRONG_KEY, "short,"):
        assert secret not in answer.text

"""The embedded Postgres: shared with a service that runs, and reported if it does not start."""

import signal
from pathlib import Path

import pytest

from service.commands import doctor
from service.doctor.findings import Level
from service.settings import read_settings
from tests.doctor.examining import STRONG_KEY, STRONG_SECRET, list_troubles
from tests.processes import OUTCOMES, run, serve


async def test_it_looks_into_that_of_a_running_service_and_leaves_it_running(tmp_path: Path) -> None:
    settings = {
        "OUTCOMES_DATA_DIR": str(tmp_path / "data"),
        "FORMANT_WEBHOOK_SECRET": STRONG_SECRET,
        "OUTCOMES_API_KEY": STRONG_KEY,
    }
    async with serve(**settings) as serving:
        url = str(serving.client.base_url).rstrip("/")
        report = await run(OUTCOMES, "doctor", "--url", url, **settings)
        troubles = [line for line in list_troubles(report.output) if line.startswith("problem")]
        assert (troubles, report.errors) == ([], "")
        assert "the embedded Postgres' own" in report.output
        assert (await serving.client.get("/readyz")).status_code == 200
        assert await serving.end(signal.SIGTERM) == 0
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()  # the last to leave has stopped it


def test_one_that_does_not_start_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "postgres"
    folder.mkdir(parents=True)
    (folder / "PG_VERSION").write_text("99\n")
    (folder / "postgresql.conf").write_text("")
    monkeypatch.setattr(doctor, "EMBEDDED_SECONDS", 1.0)
    with doctor._find_database(read_settings({"OUTCOMES_DATA_DIR": str(tmp_path / "data")})) as (url, finding):
        assert url is None
        assert finding is not None
        assert (finding.level, "OUTCOMES_DATA_DIR" in finding.remedy) == (Level.PROBLEM, True)

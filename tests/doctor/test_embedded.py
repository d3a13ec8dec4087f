"""The embedded Postgres: shared with a service that runs, and reported if it does not start."""

import signal
from pathlib import Path

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


async def test_one_that_does_not_start_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("17\n")
    report = await run(OUTCOMES, "doctor", "--no-service", OUTCOMES_DATA_DIR=str(tmp_path))
    (line,) = [line for line in list_troubles(report.output) if "database.answer" in line]
    assert line == (
        f"problem database.answer OUTCOMES_DATA_DIR: {folder} has data of Postgres 17, the embedded one is 18 "
        "→ Name another folder, or set OUTCOMES_DATABASE_URL"
    )
    assert report.status == 1


async def test_a_data_folder_that_the_system_refuses_is_a_problem() -> None:
    folder = "x" * 300  # fails for root too, whom no permission stops
    report = await run(OUTCOMES, "doctor", "--no-service", OUTCOMES_DATA_DIR=folder)
    folders, database = [line for line in list_troubles(report.output) if "File name too long" in line]
    assert folders.startswith("problem configuration.data_dir OUTCOMES_DATA_DIR: ")
    assert database == (
        f"problem database.answer OUTCOMES_DATA_DIR: {folder} cannot be used (File name too long) "
        "→ Name a folder that this user may write, or set OUTCOMES_DATABASE_URL"
    )
    assert (report.status, report.errors) == (1, "")

"""The demo: what a newcomer does in the first ten minutes, in a folder of their own."""

import asyncio
import contextlib
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.commands.demo import CONTACTS, _write_contacts
from service.demo_settings import find_demo, publish_demo
from service.errors import ConfigurationError
from tests.eventually import eventually
from tests.processes import DEADLINE_SECONDS, OUTCOMES, make_environ, run_in

QUICK = ("--recipients", "30", "--speed", "4000", "--drop", "0.3")
COLUMNS = 80
MAPPING = Path(__file__).parents[2] / "deploy" / "crm" / "hubspot.toml"


@asynccontextmanager
async def start_demo(folder: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A demo that goes on serving; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        OUTCOMES, "demo", *QUICK, *options, cwd=folder, env=make_environ({}),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def read_until(process: asyncio.subprocess.Process, text: str) -> list[str]:
    """What it prints, up to the first line with ``text``."""
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for line in process.stdout:
            lines.append(line.decode().rstrip("\n"))
            if text in lines[-1]:
                return lines
    raise AssertionError(lines)


async def test_every_run_is_complete_whatever_the_runs_before_it_came_to(tmp_path: Path) -> None:
    # Killed while it uploads, or just before or after that; while calls are made; and once not at all.
    for text, seconds in (("The service answers", 0.05), ("Uploaded", 0.5), ("Every figure agrees", 0)):
        async with start_demo(tmp_path, "--recipients", "50") as process:
            await read_until(process, text)
            await asyncio.sleep(seconds)
            process.kill()
    for recipients in ("50", "20"):
        done = await run_in(tmp_path, OUTCOMES, "demo", *QUICK, "--recipients", recipients, "--exit")
        assert (done.status, done.errors) == (0, "")
        assert re.search(r"verdict +│ complete", done.output)
        assert re.search(rf"total_processed +│ {recipients} +│ {recipients} ", done.output)
        assert "Every figure agrees." in done.output
        assert [line for line in done.output.splitlines() if len(line) > COLUMNS] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_what_it_prints_can_be_pasted_and_commands_beside_it_find_its_settings(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    async with start_demo(here) as process:
        lines = await read_until(process, "/sandbox")
        assert [line for line in lines if len(line) > COLUMNS and ".venv" not in line] == []
        (pasted,) = [line for line in lines if line.startswith("export ")]
        assert re.fullmatch(r"export OUTCOMES=http://127\.0\.0\.1:\d+ KEY=test-key BATCH=\d+", pasted)
        (page,) = [line.split()[-1] for line in lines if line.endswith("/docs")]
        assert httpx.get(page).headers["content-type"].startswith("text/html")

        (curl,) = [line for line in lines if line.startswith("curl ")]
        assert '"verdict":"complete"' in await paste(here, pasted, f"{curl} -s --noproxy '*'")
        upload = '-H "Authorization: Bearer $KEY" -F agent_id=123 -F "name=March Follow Ups" -F "file=@contacts.csv"'
        uploaded = await paste(here, pasted, f"curl -s --noproxy '*' -X POST $OUTCOMES/v1/batch-call {upload}")
        found = re.search(r'"id":(\d+)', uploaded)
        assert found, uploaded
        show = f'curl -s --noproxy \'*\' "$OUTCOMES/v1/batch-calls/{found[1]}/outcomes" -H "Authorization: Bearer $KEY"'
        # By the real clock it would take 15 minutes.
        await eventually(lambda: paste(here, pasted, show), lambda shown: '"verdict":"complete"' in shown)

        batch = pasted.rpartition("=")[2]
        sync = ("crm-sync", str(MAPPING), "--dry-run")
        for command in (("reconcile", batch), ("bi", "role"), ("keys", "list"), sync):
            beside = await run_in(here, OUTCOMES, *command)
            assert (beside.status, beside.errors) == (
                0, "outcomes: using the settings of the demo that runs here\n"
            ), beside  # fmt: skip
        checked = await run_in(here, OUTCOMES, "doctor")
        assert "ok        service.answer                Ready: it commits" in checked.output
        assert "ok        provider.answer               The provider answers" in checked.output
        lost = await run_in(elsewhere, OUTCOMES, "bi", "role")
        assert (lost.status, lost.output, list(elsewhere.iterdir())) == (2, "", [])
        assert lost.errors.startswith(f"outcomes: There is no database in {elsewhere}/.data: run this in the folder")
        second = await run_in(here, OUTCOMES, "demo", "--exit")
        assert (second.status, second.output) == (2, "")
        assert second.errors.startswith("outcomes: A demo is already running in .data: end it with Ctrl-C")

        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 0
    after = await run_in(here, OUTCOMES, "reconcile", batch, FORMANT_API_KEY="")
    assert after.errors.startswith("outcomes: FORMANT_API_KEY is empty")


async def paste(folder: Path, *lines: str) -> str:
    """What the lines print in a shell."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", "\n".join(lines), cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_ctrl_c_in_the_midst_of_it_leaves_one_line(tmp_path: Path) -> None:
    async with start_demo(tmp_path, "--speed", "1") as process:
        await read_until(process, "Uploaded")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            output = (await process.stdout.read()).decode()
            assert await process.wait() == 1
    assert output.endswith("Stopped before the batch was compared. Run it again at any time.\n")
    assert "Traceback" not in output


def test_a_file_of_the_users_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    file = tmp_path / CONTACTS
    contents = []
    for _ in range(2):  # its own of the run before is replaced: these people were perhaps uploaded
        assert _write_contacts(data) == "contacts.csv has 100 more people to upload."
        contents.append(file.read_text())
    assert contents[0] != contents[1]
    file.write_text("mine")
    for _ in range(2):
        assert _write_contacts(data).startswith("contacts.csv here is yours and is kept; ")
        assert file.read_text() == "mine"
        assert (data / CONTACTS).read_text().count("\n") == 101


def test_a_folder_that_takes_no_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").touch()
    assert _write_contacts(tmp_path / "data").startswith(f"{tmp_path}/data cannot be written (File exists)")
    assert not (tmp_path / CONTACTS).exists()


DATABASE, SERVICE = "OUTCOMES_DATABASE_URL", "OUTCOMES_URL"


def test_settings_are_found_while_the_demo_runs_and_only_for_what_is_its_own(tmp_path: Path) -> None:
    ours = {"OUTCOMES_DATABASE_URL": "", "FORMANT_API_KEY": "sandbox-key"}
    here = {"OUTCOMES_DATA_DIR": str(tmp_path)}
    assert find_demo(here, DATABASE) == {}
    with publish_demo(tmp_path, ours):
        assert find_demo(here, DATABASE) == ours
        assert find_demo(here | {"FORMANT_API_KEY_FILE": "/key"}, DATABASE) == ours | {"FORMANT_API_KEY_FILE": ""}
        assert find_demo(here | {"OUTCOMES_DATABASE_URL": "postgresql://db/production"}, DATABASE) == {}
        assert find_demo(here | {"OUTCOMES_DATABASE_URL_FILE": "/url"}, DATABASE) == {}
        assert (tmp_path / "demo.json").stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigurationError, match="A demo is already running"), publish_demo(tmp_path, {}):
            pass
        assert find_demo(here, DATABASE) == ours
    assert find_demo(here, DATABASE) == {}
    with publish_demo(tmp_path, {"OUTCOMES_DATABASE_URL": "postgresql://db/demo"}):
        assert find_demo(here | {"OUTCOMES_DATABASE_URL": "postgresql://db/demo"}, DATABASE) != {}
        assert find_demo(here, DATABASE) != {}
    with publish_demo(tmp_path, {"OUTCOMES_URL": "http://127.0.0.1:8081"}):
        assert find_demo(here, SERVICE) == {"OUTCOMES_URL": "http://127.0.0.1:8081"}
        assert find_demo(here | {"OUTCOMES_URL": "https://production"}, SERVICE) == {}

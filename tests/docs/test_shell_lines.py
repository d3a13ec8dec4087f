"""Every shell line of README and tutorial works as written, in order, next to the demo that ``make run`` starts."""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docs.generate import ROOT
from tests.processes import Finished, make_environ
from tests.provider import find_free_port

PAGES = ("README.md", "docs/tutorial.md")
DEMO_SECONDS = 120
STRICT_CURL = """#!/bin/sh
exec {curl} --fail --noproxy '*' --max-time 60 "$@"
"""

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in ("curl", "make", "bash")), reason="needs curl, make and bash"
)


def read_blocks(page: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def make_clone(folder: Path) -> None:
    """Makes a folder that looks like a clone after ``make setup``, where commands may leave files."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (folder / ".venv" / ".installed").touch()
    (folder / "strict").mkdir()
    curl = folder / "strict" / "curl"
    curl.write_text(STRICT_CURL.format(curl=shutil.which("curl")))
    curl.chmod(0o755)


async def run_demo(process: asyncio.subprocess.Process) -> str:
    """Reads what the demo prints until it keeps serving."""
    assert process.stdout is not None
    output = ""
    async with asyncio.timeout(DEMO_SECONDS):
        while "/sandbox\n" not in output.partition("Still serving")[2]:
            line = await process.stdout.readline()
            assert line, f"the demo ended: {output}"
            output += line.decode()
    return output


@pytest.fixture
async def clone(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Path, dict[str, str]]]:
    """Yields the folder in which ``make run`` serves, and the environment of a second terminal in it."""
    make_clone(tmp_path)
    environ = make_environ({"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_PORT": str(find_free_port())})
    for name in ("FORMANT_WEBHOOK_SECRET", "OUTCOMES_API_KEY"):  # the demo has its own
        del environ[name]
    process = await asyncio.create_subprocess_exec(
        "make", "run", cwd=tmp_path, env=environ | {"ARGS": "--recipients 60 --speed 2000"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        output = await run_demo(process)
        exported = dict(re.findall(r"\b(OUTCOMES|KEY|BATCH)=(\S+)", output))
        path = f"{tmp_path / 'strict'}{os.pathsep}{environ['PATH']}"
        yield tmp_path, environ | exported | {"PATH": path}
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()


async def run_script(script: str, folder: Path, environ: dict[str, str]) -> Finished:
    process = await asyncio.create_subprocess_exec(
        "bash", "-xeuo", "pipefail", "-c", script, cwd=folder, env=environ,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(), errors.decode())


@pytest.mark.timeout(300)
async def test_every_shell_line_of_readme_and_tutorial_works_as_written(
    clone: tuple[Path, dict[str, str]], subtests: pytest.Subtests
) -> None:
    folder, environ = clone
    for page in PAGES:
        blocks = read_blocks(page)
        assert blocks[0] == "make run\n"  # the fixture has done it
        # They run this test, so here make only prints what it would do.
        script = re.sub(r"^make (test|faults)\b", r"make -n \1", "".join(blocks[1:]), flags=re.MULTILINE)
        with subtests.test(page=page):
            done = await run_script(script, folder, environ)
            assert done.status == 0, f"{done.output[-2000:]}\n{done.errors[-2000:]}"
            if page == "README.md":
                assert '"verdict":"complete"' in done.output
            else:
                assert '"reason": "no_batch"' in done.output
                assert 'disposition="duplicate"' in done.output
                assert "0 differences" in done.output + done.errors

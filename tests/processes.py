"""Runs the command line as real processes: to their end, or serving until a signal."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import httpx

from tests.conftest import API_KEY, SECRET
from tests.forking import Forked, fork_outcomes

OUTCOMES = str(Path(sys.executable).parent / "outcomes")
DEADLINE_SECONDS = 60.0
Process: TypeAlias = asyncio.subprocess.Process | Forked


class Finished(NamedTuple):
    """A process that has ended."""

    status: int
    output: str
    errors: str


def make_environ(settings: dict[str, str]) -> dict[str, str]:
    """The environment of this process with the given settings instead of its own."""
    others = ("OUTCOMES_", "FORMANT_", "MAKE", "MFLAGS")  # what `make test ARGS=…` passes down is for its own tests
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    usual = {"FORMANT_WEBHOOK_SECRET": SECRET, "OUTCOMES_API_KEY": API_KEY, "OUTCOMES_PORT": "0"}
    return inherited | usual | settings


async def run(*command: str, **settings: str) -> Finished:
    """Runs a command to its end."""
    return await run_in(Path.cwd(), *command, **settings)


async def run_in(folder: Path, *command: str, **settings: str) -> Finished:
    """Runs a command to its end, in a folder."""
    pipe = asyncio.subprocess.PIPE
    process = await start(*command, settings=settings, folder=folder, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(), errors.decode())


async def start(
    *command: str, settings: dict[str, str], folder: Path | None = None, stdout: int | None = None,
    stderr: int | None = None,
) -> Process:  # fmt: skip
    """Starts a command. ``outcomes`` is forked if its environment may be set after the start."""
    program, *arguments = command
    environ = make_environ(settings)
    if program == OUTCOMES and "LD_PRELOAD" not in settings:
        return await fork_outcomes(*arguments, env=environ, cwd=folder, stdout=stdout, stderr=stderr)
    return await asyncio.create_subprocess_exec(
        *command, env=environ, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )


class Serving:
    """A running ``outcomes serve`` and a client with the API key."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.client = httpx.AsyncClient(headers={"authorization": f"Bearer {API_KEY}"}, timeout=30.0)
        self.log: list[dict[str, Any]] = []
        self._serving = asyncio.Event()
        self._reader = asyncio.create_task(self._read_log())

    async def wait_until_serving(self) -> None:
        """Waits until it has logged its port; fails if it ends before."""
        waiting = asyncio.create_task(self._serving.wait())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.wait({waiting, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert self._serving.is_set(), self.log
        (port,) = (line["port"] for line in self.log if line["event"] == "serving")
        self.client.base_url = httpx.URL(f"http://127.0.0.1:{port}")

    async def end(self, signal_number: int) -> int:
        """Sends the signal; returns the exit status."""
        await self.client.aclose()
        if self.process.returncode is None:
            self.process.send_signal(signal_number)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._reader
            return await self.process.wait()

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(json.loads(line))  # fails unless each line is a JSON object
            if self.log[-1]["event"] == "serving":
                self._serving.set()


@asynccontextmanager
async def serve(*program: str, **settings: str) -> AsyncIterator[Serving]:
    """Runs ``outcomes serve``, or that of another ``program``, on a free port; kills it at the end if necessary."""
    process = await start(
        *(program or (OUTCOMES,)), "serve", settings=settings, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    serving = Serving(process)
    try:
        await serving.wait_until_serving()
        yield serving
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await serving.end(0)

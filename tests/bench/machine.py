"""Processes under measurement: starts them, waits for them, reads their CPU time and memory, and ends them by id."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def find_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def run_process(arguments: list[str], port: int, environ: dict[str, str] | None = None) -> Iterator[psutil.Process]:
    """Runs a Python process for the block; yields once it listens on ``port``."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not reach it: the block ends it
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{arguments} did not start")
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def read_cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and all its children since their start, of those that have ended too."""
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        times = member.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


class Memory:
    """Samples the peak memory of a process and its children above what they used at the start."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self.idle_bytes = self._read()
        self.peak_bytes = self.idle_bytes
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> float:
        """Stops sampling; returns the peak in MB above the start."""
        self._ended.set()
        self._thread.join()
        return (self.peak_bytes - self.idle_bytes) / 2**20

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, self._read())

    def _read(self) -> int:
        total = 0
        for member in [self._process, *self._process.children(recursive=True)]:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


def describe_machine() -> str:
    """Cores, processor and memory."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "unknown processor")
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Python {sys.version.split()[0]}, {sys.platform}"

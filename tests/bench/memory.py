"""How much memory a process takes while it is measured."""

import threading

import psutil


class Memory:
    """The greatest memory of a process and its children, above what it had at first; sampled."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self.idle_bytes = self._read()
        self.peak_bytes = self.idle_bytes
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> float:
        """MB above the idle service."""
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

"""The failures file: one JSON line for each outcome that did not reach the CRM, with the reason.

``append`` returns once its lines are on disk. A line cut off by a crash was never acknowledged: it is removed, and
comes again with its page. The file holds keys and reasons but no outcomes: a retry reads the current state from the
feed, so an old state never overwrites a newer one.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from service.crm.records import Failure
from service.errors import ConfigurationError


class _Line(msgspec.Struct):
    position: int
    batch_id: int | None
    recipient: int
    key: str
    reason: str
    failed_at: datetime


@dataclass(frozen=True)
class FailuresFile:
    """A failures file, locked while ``open_failures`` lasts."""

    path: Path

    def append(self, failures: Sequence[Failure]) -> None:
        """Adds failures durably."""
        if failures:
            is_new = not self.path.exists()
            _write(self.path, os.O_APPEND, _encode(failures))
            if is_new:
                _sync_folder(self.path)

    def read(self) -> list[Failure]:
        """All failures in order; none without a file. Raises ConfigurationError for a file of another kind."""
        if not self.path.exists():
            return []
        failures = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                read = msgspec.json.decode(line, type=_Line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{self.path}: line {number} is not a failure of crm-sync: {error}") from error
            failures.append(Failure(read.key, read.position, read.batch_id, read.recipient, read.reason))
        return failures

    def replace(self, failures: Sequence[Failure]) -> None:
        """Replaces all failures, durably and atomically."""
        written = self.path.with_name(f"{self.path.name}.new")
        _write(written, os.O_TRUNC, _encode(failures))
        written.replace(self.path)
        _sync_folder(self.path)


@contextmanager
def open_failures(path: Path) -> Iterator[FailuresFile]:
    """Yields the file, which need not exist yet. Raises ConfigurationError when it cannot be written or another job
    uses it: two jobs could send an older state after a newer one."""
    try:
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}): name another file by --failures"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"{path} is in use by another crm-sync: stop that one first") from error
        _remove_cut_line(path)
        yield FailuresFile(path)
    finally:
        os.close(lock)


def _encode(failures: Sequence[Failure]) -> bytes:
    now = datetime.now(UTC)
    lines = [_Line(each.position, each.batch_id, each.recipient, each.key, each.reason, now) for each in failures]
    return msgspec.json.Encoder().encode_lines(lines)


def _write(path: Path, how: int, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | how, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove_cut_line(path: Path) -> None:
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)

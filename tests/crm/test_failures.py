"""The failures file: no line is lost, no partial line is kept, and only one job uses it."""

import json
import os
import stat
from pathlib import Path

import pytest

from service.crm.failures import open_failures
from service.crm.records import Failure
from service.errors import ConfigurationError


def make_failure(number: int, reason: str = "no such loan") -> Failure:
    return Failure(f"LN-{number}", number, 456, number, reason)


def test_failures_are_kept_one_a_line_with_their_reason(tmp_path: Path) -> None:
    path = tmp_path / "failures.ndjson"
    with open_failures(path) as file:
        assert file.read() == []
        file.append([make_failure(1), make_failure(2, 'not "valid"\nat all')])
        file.append([])
    with open_failures(path) as file:
        file.append([make_failure(3)])
        assert file.read() == [make_failure(1), make_failure(2, 'not "valid"\nat all'), make_failure(3)]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0].keys() == {"position", "batch_id", "recipient", "key", "reason", "failed_at"}


def test_no_other_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "failures.ndjson"
    with open_failures(path) as file:
        file.append([make_failure(1)])
        file.replace([make_failure(1)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_appended_lines_are_on_disk_before_anything_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / "failures.ndjson"
    with open_failures(path) as file:
        file.append([make_failure(1)])
        assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]
        synced.clear()
        file.append([make_failure(2)])
        assert synced == [path.stat().st_ino]
        synced.clear()
        file.replace([make_failure(3)])
        assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


@pytest.mark.parametrize("whole", [0, 2])
def test_a_line_that_a_crash_cut_off_is_removed(tmp_path: Path, whole: int) -> None:
    path = tmp_path / "failures.ndjson"
    failures = [make_failure(number) for number in range(1, whole + 1)]
    with open_failures(path) as file:
        file.append(failures)
    with path.open("a") as opened:
        opened.write('{"position": 9, "batch_')
    with open_failures(path) as file:
        assert file.read() == failures
        file.append([make_failure(9)])
        assert file.read() == [*failures, make_failure(9)]


def test_replacing_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "failures.ndjson"
    with open_failures(path) as file:
        file.append([make_failure(1), make_failure(2)])
        before = path.stat().st_ino
        file.replace([make_failure(2, "again")])
        assert file.read() == [make_failure(2, "again")]
        assert path.stat().st_ino != before  # another file took its place at once
        file.replace([])
        assert file.read() == []


def test_a_second_job_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "failures.ndjson"
    with (
        open_failures(path),
        pytest.raises(ConfigurationError, match=r"in use by another crm-sync"),
        open_failures(path),
    ):
        raise AssertionError("unreachable")
    with open_failures(path):
        pass


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "failures.ndjson"
    path.write_text('{"position": 1}\n')
    with open_failures(path) as file, pytest.raises(ConfigurationError, match="line 1 is not a failure of crm-sync"):
        file.read()


def test_a_path_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be written.*--failures"), open_failures(Path("/nowhere/f")):
        raise AssertionError("unreachable")

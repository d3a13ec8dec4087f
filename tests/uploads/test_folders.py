"""Folders that a killed service left name people, and are removed by the next sweep."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from service.uploads.folders import PREFIX, make_folder, remove_leftovers

OWNER = """
import sys, time
from pathlib import Path
from service.uploads.folders import make_folder
with make_folder() as folder:
    (Path(folder) / "contacts.csv").write_text("+919876543210")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def start_owner(tmp_path: Path) -> tuple["subprocess.Popen[str]", Path]:
    """Another process that holds a folder until its input ends, and that folder."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert owner.stdout is not None
    return owner, Path(owner.stdout.readline().strip())


async def test_the_folder_of_a_killed_process_is_removed_at_once_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    (killed, left), (living, held) = start_owner(tmp_path), start_owner(tmp_path)
    with make_folder() as own:
        await remove_leftovers()
        assert [path.exists() for path in (left, held, Path(own))] == [True, True, True]
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert (left / "contacts.csv").exists()
        await remove_leftovers()
        assert [path.exists() for path in (left, held, Path(own))] == [False, True, True]
    living.communicate("")
    assert list(tmp_path.iterdir()) == []


async def test_a_lock_whose_folder_is_gone_is_removed_and_what_is_not_ours_is_left(tmp_path: Path) -> None:
    orphan = tmp_path / f"{PREFIX}0123.lock"
    orphan.touch()
    foreign = tmp_path / "outcomes-other"
    foreign.mkdir()
    await remove_leftovers()
    assert list(tmp_path.iterdir()) == [foreign]


async def test_a_folder_of_a_version_that_locked_none_is_removed_once_its_request_must_have_ended(
    tmp_path: Path,
) -> None:
    stale, fresh = tmp_path / f"{PREFIX}stale", tmp_path / f"{PREFIX}fresh"
    for folder in (stale, fresh):
        folder.mkdir()
    hours_ago = time.time() - 7 * 3600
    os.utime(stale, (hours_ago, hours_ago))
    await remove_leftovers()
    assert list(tmp_path.iterdir()) == [fresh]


def test_a_folder_is_open_to_nobody_else() -> None:
    with make_folder() as folder:
        assert Path(folder).stat().st_mode & 0o077 == 0

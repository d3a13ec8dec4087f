"""What a killed service left in the temporary folder names people, and is removed."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from service.batches.leftovers import make_folder, remove_leftovers


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


async def test_a_folder_is_removed_once_its_request_must_have_ended_and_no_other_is() -> None:
    with make_folder() as stale, make_folder() as fresh, tempfile.TemporaryDirectory() as foreign:
        (Path(stale) / "contacts.csv").write_text("+919876543210")
        hours_ago = time.time() - 7 * 3600
        for folder in (stale, foreign):
            os.utime(folder, (hours_ago, hours_ago))
        await remove_leftovers()
        assert [Path(folder).exists() for folder in (stale, fresh, foreign)] == [False, True, True]
        Path(stale).mkdir()


def test_a_folder_is_open_to_nobody_else() -> None:
    with make_folder() as folder:
        assert Path(folder).stat().st_mode & 0o077 == 0

"""``make release`` builds what a production machine installs: it starts, and says its version."""

import hashlib
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from service.cli import outcomes
from tests.processes import OUTCOMES, run
from tests.releases.building import CHECKSUMS, LOCK, ROOT, build, read_changes, read_version

CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-30

### Added

- A thing.

## [1.1.0] - 2026-10-01

- Another.
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {file.name: file for file in build(tmp_path_factory.mktemp("release") / "dist")}


def test_a_release_has_a_wheel_a_source_archive_and_the_lock_with_their_checksums(files: dict[str, Path]) -> None:
    release = read_version()
    assert files.keys() == {
        f"formant_outcomes-{release}-py3-none-any.whl", f"formant_outcomes-{release}.tar.gz", LOCK.name, CHECKSUMS,
    }  # fmt: skip
    for line in files[CHECKSUMS].read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest


def test_the_source_archive_has_what_the_installation_page_takes_from_it(files: dict[str, Path]) -> None:
    (archive,) = [file for name, file in files.items() if name.endswith(".tar.gz")]
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = {"deploy/requirements.lock", "deploy/outcomes.service", "deploy/nginx.conf", "deploy/backup/restore.sh"}
    assert wanted <= names
    assert not any(name.startswith("tests/") for name in names)


def test_a_wheel_is_built_from_the_source_archive_alone(files: dict[str, Path], tmp_path: Path) -> None:
    (archive,) = [file for name, file in files.items() if name.endswith(".tar.gz")]
    (wheel,) = [file for name, file in files.items() if name.endswith(".whl")]
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=folder, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


async def test_the_version_stands_in_one_place(files: dict[str, Path]) -> None:
    printed = await run(OUTCOMES, "--version")
    assert printed.output == f"outcomes {read_version()}\n"
    assert version("formant-outcomes") == read_version()
    assert "--version" in {option for parameter in outcomes.params for option in parameter.opts}
    repeated = [
        path
        for path in (ROOT / "service").rglob("*.py")
        if f'"{read_version()}"' in path.read_text()
    ]  # fmt: skip
    assert repeated == []


def test_a_release_needs_its_section_of_the_changelog() -> None:
    assert read_changes(CHANGELOG, "1.2.0") == "### Added\n\n- A thing."
    for missing in ("1.3.0", "Unreleased", "1.2"):
        with pytest.raises(ValueError, match=r"has no section for .*: write '## \["):
            read_changes(CHANGELOG, missing)

"""The files of a release: wheel, source archive, the lock of its dependencies, and their checksums."""

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy" / "requirements.lock"
CHECKSUMS = "SHA256SUMS"


def read_version() -> str:
    """The version, from the one place where it stands."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return version


def read_changes(changelog: str, version: str) -> str:
    """The changelog's section for ``version``; raises ValueError, with the remedy, if there is none or it is empty."""
    section = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", changelog, re.DOTALL | re.MULTILINE
    )
    if section is None or not section[1].strip():
        raise ValueError(
            f"CHANGELOG.md has no section for {version}: write '## [{version}] - YYYY-MM-DD' above its changes, and an "
            "empty '## [Unreleased]' above that"
        )
    return section[1].strip()


def build(folder: Path) -> list[Path]:
    """Builds the release's files in ``folder``, without those of an earlier one; returns their paths."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    for target in ("wheel", "sdist"):
        subprocess.run([*command, target], cwd=ROOT, check=True, capture_output=True, timeout=120)
    shutil.copy(LOCK, folder)
    files = sorted(folder.iterdir())
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(lines))
    return [*files, folder / CHECKSUMS]

"""Commands find the settings of the installed service in its environment file, and say so."""

import os
from pathlib import Path

import pytest

from service import environment
from service.environment import find_environ, read_env_file
from service.errors import ConfigurationError
from tests.commands.refusing import assert_refused
from tests.processes import OUTCOMES, run, run_in

FILE = r"""# a comment
; another one
OUTCOMES_HOST=0.0.0.0
  OUTCOMES_PORT = 8081
OUTCOMES_PORT=8082

FORMANT_WEBHOOK_SECRET='single # quoted'
OUTCOMES_API_KEY="double \"quoted\" \\ \$"
OUTCOMES_OIDC_GROUP_SCOPES=analysts=read;ops=read,\
admin
OUTCOMES_REF_COLUMN=
"""


@pytest.fixture
def unit_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unit's file, without any setting of ours in the environment, in a folder without a demo."""
    for name in [name for name in os.environ if name.startswith(("OUTCOMES_", "FORMANT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "outcomes.env"
    path.write_text("OUTCOMES_DATABASE_URL_FILE=/etc/outcomes/database-url\nOTEL_TRACES_SAMPLER=always_off\n")
    monkeypatch.setattr(environment, "UNIT_FILE", path)
    return path


def test_a_file_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text(FILE)
    assert read_env_file(path) == {
        "OUTCOMES_HOST": "0.0.0.0",
        "OUTCOMES_PORT": "8082",
        "FORMANT_WEBHOOK_SECRET": "single # quoted",
        "OUTCOMES_API_KEY": 'double "quoted" \\ $',
        "OUTCOMES_OIDC_GROUP_SCOPES": "analysts=read;ops=read,admin",
        "OUTCOMES_REF_COLUMN": "",
    }


def test_a_line_that_is_no_assignment_is_named_by_its_number_only(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("OUTCOMES_PORT=80\\\n80\nmisplaced-secret\n")
    with pytest.raises(ConfigurationError, match="line 3, is no assignment: write NAME=value") as refused:
        read_env_file(path)
    assert "misplaced" not in str(refused.value)


def test_commands_use_the_units_file_and_say_so(unit_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = find_environ("OUTCOMES_DATABASE_URL")
    assert environ["OUTCOMES_DATABASE_URL_FILE"] == "/etc/outcomes/database-url"
    assert os.environ["OTEL_TRACES_SAMPLER"] == "always_off"
    assert capsys.readouterr().err == f"outcomes: using the settings in {unit_file}\n"


@pytest.mark.parametrize("name", ["OUTCOMES_DATABASE_URL", "OUTCOMES_DATABASE_URL_FILE", "OUTCOMES_DATA_DIR"])
def test_the_units_file_is_left_alone_where_the_environment_names_a_database(
    unit_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setitem(os.environ, name, "/elsewhere")
    assert "OTEL_TRACES_SAMPLER" not in find_environ("OUTCOMES_DATABASE_URL")
    assert capsys.readouterr().err == ""


def test_a_missing_unit_file_changes_nothing(unit_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit_file.unlink()
    assert "OTEL_TRACES_SAMPLER" not in find_environ("OUTCOMES_DATABASE_URL")
    assert capsys.readouterr().err == ""


def test_a_unit_file_of_another_user_is_reported(
    unit_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "OTEL_TRACES_SAMPLER" not in find_environ("OUTCOMES_DATABASE_URL")
    assert "cannot be read by this user" in capsys.readouterr().err


async def test_a_named_file_serves_any_command_and_the_environment_overrides_it(
    tmp_path: Path, database_url: str
) -> None:
    path = tmp_path / "outcomes.env"
    path.write_text(f'OUTCOMES_DATABASE_URL="{database_url}"\nOUTCOMES_LOG_LEVEL=nonsense\n')
    listed = await run(OUTCOMES, "--env-file", str(path), "keys", "list", OUTCOMES_LOG_LEVEL="error")
    assert (listed.status, listed.errors) == (0, f"outcomes: using the settings in {path}\n")
    refused = await run(OUTCOMES, "--env-file", str(path), "keys", "list")
    assert (refused.status, "OUTCOMES_LOG_LEVEL" in refused.errors) == (2, True)


async def test_a_secret_of_the_environment_replaces_the_files_secret_file(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "outcomes.env").write_text("OUTCOMES_DATABASE_URL_FILE=/nowhere/url\n")
    listed = await run_in(
        tmp_path, OUTCOMES, "--env-file", "outcomes.env", "keys", "list", OUTCOMES_DATABASE_URL=database_url
    )
    assert listed.status == 0, listed


async def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outcomes.env").write_text("nothing\n")
    assert_refused(await run_in(tmp_path, OUTCOMES, "--env-file", "outcomes.env", "doctor"), "line 1", "NAME=value")

"""Invalid settings are all reported at once, each with its remedy and never with a secret."""

import json
from pathlib import Path

import pytest

from service.doctor.findings import Level
from tests.doctor.examining import STRONG_SECRET, examine, find, find_one
from tests.processes import OUTCOMES, run


async def test_every_setting_that_cannot_be_used_is_reported_and_the_rest_is_checked_all_the_same() -> None:
    findings = await examine(
        None, OUTCOMES_PORT="65536", OUTCOMES_TIME_ZONE="Mars/Olympus", OUTCOMES_API_KEY_FILE="/nowhere/key",
        OUTCOMES_ALLOW_UNSAFE_DATABASE="1", OUTCOMES_PROT="80", FORMANT_NONSENSE="1",
    )  # fmt: skip
    settings_findings = find(findings, "configuration.settings")
    problems = [finding for finding in settings_findings if finding.level is Level.PROBLEM]
    assert len(problems) == 3
    for name in ("OUTCOMES_PORT", "OUTCOMES_TIME_ZONE", "OUTCOMES_API_KEY"):
        assert any(name in finding.message and name in finding.remedy for finding in problems), name
    warnings = {
        finding.message.split()[0]: finding.remedy for finding in settings_findings if finding.level is Level.WARNING
    }
    assert warnings["OUTCOMES_PROT"].startswith("Did you mean OUTCOMES_PORT?")
    assert "FORMANT_NONSENSE" in warnings
    assert "OUTCOMES_ALLOW_UNSAFE_DATABASE=1:" in warnings
    assert find_one(findings, "configuration.webhook_secrets", Level.OK)


async def test_the_rules_for_calls_outside_batches_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(
        '[targets.reception]\nsecrets = ["0f6a7b1c2d3e4f5061728394a5b6c7d8"]\nkind = "inbound"\n'
        '[agents.123]\nnumbers = ["+918047100123"]\nsingle_when = { source = ["app"] }\nkind = "single"\n'
    )
    found = find_one(await examine(None, OUTCOMES_TARGETS_FILE=str(path)), "configuration.call_kinds", Level.OK)
    assert found.message == (
        "Rules for single and inbound calls: target reception: all inbound; "
        "agent 123: own numbers: 1, single when source is one of 1, others: single"
    )
    path.write_text("[agents.123]\nnumbers = 7\n")
    broken = await examine(None, OUTCOMES_TARGETS_FILE=str(path))
    assert find_one(broken, "configuration.call_kinds", Level.UNCHECKED)
    assert find_one(await examine(None), "configuration.call_kinds", Level.OK).message.startswith("No rules")


async def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    finished = await run(OUTCOMES, "doctor", "--no-service", OUTCOMES_PORT=STRONG_SECRET, OUTCOMES_DATA_DIR="/nowhere")
    assert "OUTCOMES_PORT takes a whole number from 0 to 65535 → " in " ".join(finished.output.split())
    assert finished.status == 1
    assert STRONG_SECRET not in finished.output + finished.errors


@pytest.mark.parametrize(
    ("settings", "level", "message", "remedy"),
    [
        ({"FORMANT_WEBHOOK_SECRET": ""}, Level.PROBLEM, "is empty", "provider's dashboard"),
        ({"FORMANT_WEBHOOK_SECRET": "", "OUTCOMES_ALLOW_UNSIGNED": "1"}, Level.PROBLEM, "Anyone may post", "unset"),
        ({"OUTCOMES_ALLOW_UNSIGNED": "1"}, Level.WARNING, "has no effect", "Unset"),
        ({"FORMANT_WEBHOOK_SECRET": "short"}, Level.WARNING, "fewer than 16", "openssl rand"),
        ({"FORMANT_WEBHOOK_SECRET": "demo-secret"}, Level.PROBLEM, "public", "openssl rand"),
        ({"FORMANT_WEBHOOK_SECRET": f"{STRONG_SECRET},{STRONG_SECRET}2"}, Level.WARNING, "2 secrets", "rotation"),
    ],
)
async def test_weak_or_missing_webhook_secrets_are_reported(
    settings: dict[str, str], level: Level, message: str, remedy: str
) -> None:
    found = find_one(await examine(None, settings), "configuration.webhook_secrets", level)
    assert message in found.message
    assert remedy in found.remedy


async def test_a_targets_file_is_looked_into_and_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text('[targets.india]\nsecrets = ["tiny-one"]\n')
    found = find_one(
        await examine(None, OUTCOMES_TARGETS_FILE=str(file)), "configuration.webhook_secrets", Level.WARNING
    )
    assert "Secret 1 of the target india has fewer" in found.message
    file.write_text('[targets.india]\nsecrets = "tiny-one"\n')
    findings = await examine(None, OUTCOMES_TARGETS_FILE=str(file))
    found = find_one(findings, "configuration.webhook_secrets", Level.PROBLEM)
    assert str(file) in found.message
    assert "tiny-one" not in str(findings)


async def test_secret_files_that_others_may_read_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(STRONG_SECRET)
    file.chmod(0o644)
    given = {"OUTCOMES_API_KEY": "", "OUTCOMES_API_KEY_FILE": str(file)}
    found = find_one(await examine(None, given), "configuration.secret_files", Level.WARNING)
    assert "OUTCOMES_API_KEY_FILE" in found.message
    assert "chmod" in found.remedy
    file.chmod(0o440)
    assert find_one(await examine(None, given), "configuration.secret_files", Level.OK)


async def test_how_people_sign_in_is_checked() -> None:
    assert "an API key" in find_one(await examine(None), "configuration.sign_in", Level.OK).message
    openid = {
        "OUTCOMES_OIDC_ISSUER": "https://sso.example.com",
        "OUTCOMES_OIDC_CLIENT_ID": "outcomes",
        "OUTCOMES_OIDC_CLIENT_SECRET": "secret-of-the-client",
        "OUTCOMES_OIDC_GROUP_SCOPES": "ops=admin",
    }
    found = find_one(await examine(None, openid), "configuration.sign_in", Level.PROBLEM)
    assert found.message.endswith("lacks OUTCOMES_PUBLIC_URL")
    at = openid | {"OUTCOMES_PUBLIC_URL": "https://outcomes.example.com"}
    assert "https://sso.example.com" in find_one(await examine(None, at), "configuration.sign_in", Level.OK).message
    in_the_clear = at | {"OUTCOMES_PUBLIC_URL": "http://outcomes.example.com"}
    assert "TLS" in find_one(await examine(None, in_the_clear), "configuration.sign_in", Level.PROBLEM).remedy


async def test_a_provider_in_the_clear_and_one_without_a_key_are_reported() -> None:
    findings = await examine(None, FORMANT_BASE_URL="http://api.example", FORMANT_API_KEY="")
    assert "https" in find_one(findings, "configuration.provider", Level.PROBLEM).remedy
    assert "FORMANT_API_KEY" in find_one(findings, "configuration.provider", Level.WARNING).message
    found = find_one(
        await examine(None, FORMANT_API_KEY="x", OUTCOMES_RECONCILE_SECONDS="0"),
        "configuration.provider",
        Level.WARNING,
    )
    assert "on demand" in found.message


async def test_the_folder_of_the_embedded_database_has_to_have_room(tmp_path: Path) -> None:
    data = {"OUTCOMES_DATA_DIR": str(tmp_path / "data")}
    found = find_one(await examine(None, data), "configuration.data_dir", Level.OK)
    assert "are free in" in found.message
    found = find_one(
        await examine(None, data, limits={"free_bytes": (2**60, 2**59)}), "configuration.data_dir", Level.PROBLEM
    )
    assert "Free space" in found.remedy
    (tmp_path / "file").write_text("")
    found = find_one(
        await examine(None, OUTCOMES_DATA_DIR=str(tmp_path / "file")), "configuration.data_dir", Level.PROBLEM
    )
    assert "cannot be written" in found.message


async def test_an_api_that_nobody_is_let_in_to_is_reported(database_url: str) -> None:
    found = find_one(await examine(database_url, OUTCOMES_API_KEY=""), "configuration.api_keys", Level.WARNING)
    assert "outcomes keys create" in found.remedy
    made = await run(OUTCOMES, "keys", "create", "one", OUTCOMES_DATABASE_URL=database_url)
    assert made.status == 0
    findings = await examine(database_url, OUTCOMES_API_KEY="")
    assert find_one(findings, "configuration.api_keys", Level.OK).message.endswith(": 1")
    for key, level in (("weak", Level.WARNING), ("demo-key", Level.PROBLEM)):
        assert "openssl" in find_one(await examine(None, OUTCOMES_API_KEY=key), "configuration.api_keys", level).remedy


async def test_programs_get_the_same_as_json(tmp_path: Path) -> None:
    settings = {"OUTCOMES_DATA_DIR": str(tmp_path / "none"), "FORMANT_WEBHOOK_SECRET": ""}
    finished = await run(OUTCOMES, "doctor", "--no-service", "--json", **settings)
    report = json.loads(finished.output)
    assert (finished.status, report["status"], report["counts"]["problem"]) == (1, "problem", 1)
    (problem,) = [finding for finding in report["findings"] if finding["level"] == "problem"]
    assert problem.keys() == {"check", "level", "message", "remedy"}

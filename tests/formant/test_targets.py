"""Targets: which inbound addresses there are, and that none can be opened by mistake."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.formant.events import Event, EventDecoder
from service.formant.signature import sign
from service.formant.targets import Target, find_regions, load_targets
from tests.factories import RECEIVED, encode, make_payload

BODY = b"{}"


def load(tmp_path: Path, toml: str, *, secrets: tuple[str, ...] = ()) -> dict[str, Target]:
    path = tmp_path / "targets.toml"
    path.write_text(toml)
    return load_targets(secrets, allow_unsigned=False, path=path)


def accepts(target: Target, secret: str) -> bool:
    assert target.verifier is not None
    return target.verifier.find_secret(BODY, sign(BODY, secret).encode()) is not None


def test_the_default_target_takes_every_secret_of_the_setting() -> None:
    targets = load_targets(["new", "old"], allow_unsigned=False, path=None)
    assert list(targets) == ["default"]
    assert accepts(targets["default"], "new")
    assert accepts(targets["default"], "old")
    assert not accepts(targets["default"], "other")
    assert targets["default"].agents is None


def test_without_a_secret_the_service_refuses_to_start_and_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"FORMANT_WEBHOOK_SECRET is empty.*OUTCOMES_ALLOW_UNSIGNED=1"):
        load_targets([], allow_unsigned=False, path=None)


def test_unsigned_webhooks_are_taken_only_where_that_was_allowed() -> None:
    assert load_targets([], allow_unsigned=True, path=None)["default"].verifier is None


def test_a_configured_secret_is_checked_even_where_unsigned_webhooks_are_allowed() -> None:
    assert load_targets(["secret"], allow_unsigned=True, path=None)["default"].verifier is not None


def test_a_file_adds_targets_with_their_own_secrets_and_agents(tmp_path: Path) -> None:
    targets = load(
        tmp_path,
        '[targets.india]\nsecrets = ["new-secret", "old-secret"]\nagents = [123, 124]\n'
        '[targets.pilot-2_x]\nsecrets = ["pilot"]\n',
        secrets=("main",),
    )
    assert list(targets) == ["default", "india", "pilot-2_x"]
    assert targets["india"].agents == frozenset({123, 124})
    assert accepts(targets["india"], "old-secret")
    assert not accepts(targets["india"], "main")
    assert targets["pilot-2_x"].agents is None


def test_the_region_of_an_agents_phones_is_that_of_its_target_or_the_default(tmp_path: Path) -> None:
    toml = (
        '[targets.india]\nsecrets = ["a"]\nagents = [1, 2]\nregion = "in"\n'
        '[targets.other]\nsecrets = ["b"]\nagents = [2, 3]\n'
    )
    regions = find_regions(load(tmp_path, toml, secrets=("main",)), "US")
    assert [regions.find(agent_id) for agent_id in (1, 2, 3, 4, None)] == ["IN", "IN", "US", "US", "US"]
    assert regions.all == ("IN", "US")
    national = encode(make_payload(phone="98765 43210", agent_id=2))
    event = EventDecoder("outcome_ref", regions).decode_event(national, "other", RECEIVED, None)
    assert isinstance(event, Event)
    assert (event.phone, event.body) == ("+919876543210", national)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('[targets.a]\nsecrets = ["x"]\nagents = [1]\nregion = "India"\n', "targets.a.region: must be a two-letter"),
        ('[targets.a]\nsecrets = ["x"]\nagents = [1]\nregion = "uk"\n', "not 'uk'; the United Kingdom is GB"),
        ('[targets.a]\nsecrets = ["x"]\nregion = "IN"\n', "targets.a.region: needs agents"),
        (
            '[targets.a]\nsecrets = ["x"]\nagents = [1]\nregion = "IN"\n'
            '[targets.b]\nsecrets = ["x"]\nagents = [1]\nregion = "US"\n',
            "targets.b.region: agent 1 has another region",
        ),
    ],
)
def test_a_region_that_says_nothing_or_two_things_is_refused(tmp_path: Path, toml: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match="OUTCOMES_TARGETS_FILE") as refused:
        load(tmp_path, toml, secrets=("main",))
    assert problem in str(refused.value)


def test_a_file_alone_is_enough_and_opens_no_default_target(tmp_path: Path) -> None:
    assert list(load(tmp_path, '[targets.india]\nsecrets = ["s"]\n')) == ["india"]


def test_an_empty_list_of_agents_lets_no_agent_report(tmp_path: Path) -> None:
    assert load(tmp_path, '[targets.india]\nsecrets = ["s"]\nagents = []\n')["india"].agents == frozenset()


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("not toml", "targets.toml"),
        ("", "targets"),
        ("[targets.india]\n", "secrets"),
        ("[targets.india]\nsecrets = []\n", "targets.india.secrets"),
        ('[targets.india]\nsecrets = [" "]\n', "targets.india.secrets"),
        ('[targets.india]\nsecrets = "hush"\n', "secrets"),
        ('[targets.india]\nsecrets = ["hush"]\nagents = ["123"]\n', "agents"),
        ('[targets.india]\nsecrets = ["hush"]\nagnets = [123]\n', "agnets"),
        ('[targets.india]\nsecrets = ["hush"]\n[more]\n', "more"),
        ('[targets.India]\nsecrets = ["hush"]\n', "targets.India"),
        ('[targets."a/b"]\nsecrets = ["hush"]\n', "targets.a/b"),
        ('[targets.default]\nsecrets = ["hush"]\n', "targets.default"),
        (f'[targets.{"a" * 64}]\nsecrets = ["hush"]\n', "targets.aaaa"),
    ],
)
def test_a_wrong_file_is_refused_naming_the_setting_and_the_place_but_no_secret(
    tmp_path: Path, toml: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, toml, secrets=("main",))
    assert "OUTCOMES_TARGETS_FILE" in str(refused.value)
    assert problem in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "targets.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="OUTCOMES_TARGETS_FILE"):
        load_targets(["main"], allow_unsigned=False, path=path)

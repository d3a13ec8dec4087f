"""Which rule decides that a call without a reference is a single or an inbound call, and whose phone it has."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.formant.events import Event, EventDecoder
from service.formant.kinds import NO_KINDS, CallKinds
from service.formant.regions import Regions
from service.formant.targets import load_kinds
from tests.factories import RECEIVED, encode, make_payload

OWN, PERSON, STRANGER = "+918047100123", "+919876543210", "+919812345678"
RULES = f"""
[targets.reception]
secrets = ["s"]
kind = "inbound"

[agents.1]
numbers = ["{OWN}", "080 4710 0124"]
single_when = {{ source = ["app", "CRM"], urgent = true, stage = [2, 3], share = 0.5 }}

[agents.2]
kind = "single"

[agents.3]
numbers = ["{OWN}"]
kind = "single"
"""


def load(tmp_path: Path, toml: str = RULES) -> CallKinds:
    path = tmp_path / "targets.toml"
    path.write_text(toml)
    return load_kinds(path, Regions("IN"))


@pytest.mark.parametrize(
    ("target", "agent_id", "from_phone", "to_phone", "parameters", "expected"),
    [
        ("default", 1, OWN, PERSON, "{}", (None, PERSON)),
        ("default", 9, PERSON, OWN, '{"source": "app"}', (None, OWN)),
        ("default", None, PERSON, OWN, '{"source": "app"}', (None, OWN)),
        ("reception", 9, PERSON, OWN, "{}", ("inbound", PERSON)),
        ("reception", 1, PERSON, OWN, '{"source": "app"}', ("inbound", PERSON)),
        ("reception", 9, None, OWN, "{}", ("inbound", None)),
        ("reception", 9, "anonymous", OWN, "{}", ("inbound", None)),
        ("reception", 9, "56161", OWN, "{}", ("inbound", None)),
        ("reception", 1, OWN, PERSON, "{}", ("inbound", PERSON)),
        ("default", 1, PERSON, OWN, "{}", ("inbound", PERSON)),
        ("default", 1, "098765 43210", "080-4710-0124", "{}", ("inbound", PERSON)),
        ("default", 1, "anonymous", OWN, "{}", ("inbound", None)),
        ("default", 1, None, OWN, "{}", ("inbound", None)),
        ("default", 1, "", "080 4710 0124", "{}", ("inbound", None)),
        ("default", 1, "080 4710 0124", OWN, "{}", ("inbound", None)),
        ("default", 1, PERSON, None, "{}", ("inbound", PERSON)),
        ("default", 1, "anonymous", None, "{}", (None, None)),
        ("default", 1, STRANGER, PERSON, "{}", (None, PERSON)),
        ("default", 1, OWN, PERSON, '{"source": " App "}', ("single", PERSON)),
        ("default", 1, OWN, PERSON, '{"source": "crm"}', ("single", PERSON)),
        ("default", 1, OWN, PERSON, '{"source": "file"}', (None, PERSON)),
        ("default", 1, OWN, PERSON, '{"urgent": true}', ("single", PERSON)),
        ("default", 1, OWN, PERSON, '{"urgent": 1}', (None, PERSON)),
        ("default", 1, OWN, PERSON, '{"stage": 3}', ("single", PERSON)),
        *(
            ("default", 1, OWN, PERSON, f'{{"stage": {stage}}}', ("single", PERSON))
            for stage in ("3.0", '"3"', "30e-1", "[3]")
        ),
        ("default", 1, OWN, PERSON, '{"stage": "03"}', (None, PERSON)),
        ("default", 1, OWN, PERSON, '{"share": 5e-1}', ("single", PERSON)),
        ("default", 1, OWN, PERSON, '{"source": "A\\uff50p\\u00a0"}', ("single", PERSON)),
        ("default", 1, OWN, PERSON, '["source"]', (None, PERSON)),
        ("default", 1, OWN, PERSON, "null", (None, PERSON)),
        ("default", 2, OWN, PERSON, "{}", ("single", PERSON)),
        ("default", 3, OWN, PERSON, "{}", ("single", PERSON)),
        ("default", 3, PERSON, OWN, "{}", ("inbound", PERSON)),
    ],
)
def test_the_first_rule_that_applies_decides(
    tmp_path: Path,
    target: str,
    agent_id: int | None,
    from_phone: str | None,
    to_phone: str | None,
    parameters: str,
    expected: tuple[str | None, str | None],
) -> None:
    assert load(tmp_path).find(target, agent_id, from_phone, to_phone, parameters, "IN") == expected


def test_an_event_with_a_batchs_reference_is_a_batchs_call_whatever_the_rules_say(tmp_path: Path) -> None:
    decoder = EventDecoder("outcome_ref", kinds=load(tmp_path))
    for recipient, kind in ((1, None), (None, "single")):
        payload = make_payload(recipient=recipient, agent_id=2, phone=PERSON)
        event = decoder.decode_event(encode(payload), "default", RECEIVED, None)
        assert isinstance(event, Event)
        assert (event.kind, event.phone) == (kind, PERSON)


def test_an_event_in_odd_types_is_known_by_the_same_rules(tmp_path: Path) -> None:
    payload = make_payload(recipient=None, phone=OWN, agent_id=1)
    payload["data"]["call"] |= {"agent_id": "1", "from_phone": 919876543210}
    event = EventDecoder("outcome_ref", kinds=load(tmp_path)).decode_event(encode(payload), "default", RECEIVED, None)
    assert isinstance(event, Event)
    assert (event.kind, event.phone) == ("inbound", PERSON)


def test_without_rules_no_call_has_a_kind(tmp_path: Path) -> None:
    assert not load(tmp_path, '[agents.1]\nsuppress_when = { intent = "no" }')
    assert not load_kinds(None, Regions())
    assert NO_KINDS.find("default", 1, PERSON, OWN, '{"source": "app"}') == (None, OWN)


def test_the_same_rules_are_described_the_same_and_others_differently(tmp_path: Path) -> None:
    swapped = RULES.replace('["app", "CRM"]', '["crm", "app"]')
    assert load(tmp_path, swapped).describe() == load(tmp_path).describe()
    for other in (RULES.replace("app", "web"), RULES.replace('kind = "inbound"', ""), RULES.replace("0124", "0125")):
        assert load(tmp_path, other).describe() != load(tmp_path).describe()


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('[agents.x]\nkind = "single"', r"agents.x: must be an agent's id"),
        ('[agents.1]\nkind = "outbound"', r"agents.1.kind: takes single or inbound, not 'outbound'"),
        ('[agents.1]\nnumbers = ["reception"]', r"agents.1.numbers: must be phone numbers with country code"),
        ("[agents.1]\nsingle_when = { source = [] }", r"agents.1.single_when: needs at least one value"),
        ('[targets.a]\nsecrets = ["x"]\nkind = "batch"', r"targets.a.kind: takes single or inbound, not 'batch'"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_with_their_place(tmp_path: Path, toml: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        load(tmp_path, toml)

"""The mapping file: what it accepts, and errors that name the key and the nearest valid one."""

import contextlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.crm.entries import PLAIN_FIELDS, SOURCES, STATES, STATUSES, Entry
from service.crm.mapping import Filter, Generic, HubSpot, Mapping, Property, load_mapping, read_mapping
from service.errors import ConfigurationError
from service.formant import events
from service.outcomes import filters
from tests.crm.mapping_files import SMALLEST, make_content

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "crm"


def explain(**changes: Any) -> str:
    """The message with which a mapping is refused."""
    with pytest.raises(ConfigurationError) as refused:
        read_mapping(make_content(**changes), "map.toml")
    message = str(refused.value)
    assert message.startswith("map.toml: ")
    return message.removeprefix("map.toml: ")


def test_the_smallest_mapping_has_the_documented_defaults() -> None:
    mapping = read_mapping(make_content(), "map.toml")
    assert mapping.target == HubSpot(object_type="contacts", url="https://api.hubapi.com", batch_size=100)
    assert mapping.key.source == "parameters.loan_id"
    assert mapping.rules() == {"call_status": Property(field="status", empty="keep")}
    assert (mapping.only_final, mapping.filter, mapping.erased.properties) == (True, Filter(), {})


def test_the_words_of_a_mapping_are_those_of_the_service() -> None:
    assert STATUSES == events.STATUSES
    assert {*filters.STATES, "erased"} == set(STATES)
    assert SOURCES == ("webhook", "healed")


def test_every_plain_field_is_one_of_an_entry() -> None:
    entry = Entry(position=1, recipient=1, state="completed")
    for field in PLAIN_FIELDS:
        assert hasattr(entry, field)
        read_mapping(make_content(properties__x=field), "map.toml")


@pytest.mark.parametrize("name", ["hubspot.toml", "generic.toml"])
def test_the_examples_can_be_used(name: str) -> None:
    mapping = load_mapping(DEPLOY / name)
    assert isinstance(mapping.target, HubSpot if name == "hubspot.toml" else Generic)
    assert len(mapping.rules()) > 5


def test_the_docs_show_a_mapping_that_can_be_used_and_every_field() -> None:
    page = (ROOT / "docs" / "integrate" / "crm.md").read_text()
    _, _, shown = page.partition("```toml\n")
    assert read_mapping(tomllib.loads(shown.partition("```")[0]), "crm.md").rules().keys() > {"last_call_outcome"}
    for field in PLAIN_FIELDS:
        assert f"`{field}`" in page


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"consumr": "x"}, ["consumr is not a key", "did you mean 'consumer'?", "only_final"]),
        ({"target__objecttype": "x"}, ["target.objecttype", "did you mean 'object_type'?", "batch_size"]),
        ({"target__id_property": "x"}, ["target.id_property is not a key"]),
        ({"key__paramter": "x"}, ["key.paramter", "did you mean 'parameter'?"]),
        ({"filter__batch": [1]}, ["filter.batch", "did you mean 'batches'?"]),
        ({"erased__property": {}}, ["erased.property", "did you mean 'properties'?"]),
        ({"properties__x": {"feild": "status"}}, ["properties.x.feild", "did you mean 'field'?"]),
        ({"target__kind": "hubspt"}, ["target.kind takes one of hubspot, generic", "did you mean 'hubspot'?"]),
        ({"properties__x": "statuss"}, ["properties.x: 'statuss' is not a field", "'status'", "duration_seconds"]),
        ({"properties__x": "result.intent"}, ["properties.x", "did you mean 'results'?"]),
        ({"properties__x": "results"}, ["properties.x", "results.NAME"]),
        ({"properties__x": "status.a"}, ["properties.x: 'status.a' is not a field"]),
        (
            {"properties__x": {"field": "state", "values": {"complete": "X"}}},
            ["properties.x.values.complete", "did you mean 'completed'?", "pending_retry", "null"],
        ),
        ({"properties__x": {"field": "state", "default": "X"}}, ["properties.x.default needs values"]),
        ({"properties__x": {"field": "state", "empty": "drop"}}, ["properties.x.empty: Invalid enum value 'drop'"]),
        ({"properties__x": {"field": "state", "values": {"busy": [1]}}}, ["properties.x.values.busy: Expected"]),
        ({"properties__x": 1}, ["properties.x: Expected"]),
        ({"properties": "x"}, ["properties: Expected"]),
        ({"consumer": None}, ["consumer"]),
        ({"consumer": "a b"}, ["consumer takes"]),
        ({"consumer": 1}, ["consumer: Expected `str`"]),
        ({"target__object_type": None}, ["target", "object_type"]),
        ({"target__object_type": "../x"}, ["target.object_type"]),
        ({"target__batch_size": 101}, ["target.batch_size", "<= 100"]),
        ({"target__batch_size": 0}, ["target.batch_size", ">= 1"]),
        ({"target": {"kind": "generic"}}, ["target", "url"]),
        ({"target": {"kind": "generic", "url": "http://crm.example.com"}}, ["target.url takes https://"]),
        ({"target": {"kind": "generic", "url": "ftp://crm.example.com"}}, ["target.url takes an address"]),
        ({"target": {"kind": "generic", "url": "https://"}}, ["target.url takes an address"]),
        ({"target": {"kind": "generic", "url": "https://u:p@crm.example.com"}}, ["no user", "OUTCOMES_CRM_TOKEN"]),
        ({"target": {"kind": "generic", "url": "https://crm.example.com:x/"}}, ["target.url cannot be read"]),
        ({"target": {"kind": "generic", "url": "http://localhost.evil.com"}}, ["target.url takes https://"]),
        ({"key__parameter": None}, ["key takes either parameter"]),
        ({"key__field": "phone"}, ["key takes either parameter"]),
        ({"key": {"field": "status", "property": "x"}}, ["key.field takes one of phone, recipient_id"]),
        ({"key__parameter": ""}, ["key.parameter"]),
        ({"properties": {}}, ["properties is empty"]),
        ({"properties__loan_id": "status"}, ["loan_id is the key's property"]),
        ({"constants__call_status": "x"}, ["constants.call_status is set under properties too"]),
        ({"constants__x": [1]}, ["constants.x: Expected"]),
        ({"erased__properties": {"x": [1]}}, ["erased.properties.x: Expected"]),
        ({"withdrawn__properties": {"x": [1]}}, ["withdrawn.properties.x: Expected"]),
        ({"withdrawn__properties": {"loan_id": ""}}, ["loan_id is the key's property"]),
        ({"time_zone": "Asia/Calcuta"}, ["time_zone takes", "Asia/Calcuta"]),
        ({"filter__batches": ["456"]}, ["filter.batches"]),
        ({"only_final": "yes"}, ["only_final: Expected `bool`"]),
    ],
)
def test_an_error_names_the_key(changes: dict[str, Any], parts: list[str]) -> None:
    message = explain(**changes)
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/x", "http://localhost/x", "http://[::1]:9/x"])
def test_a_target_on_this_machine_may_be_reached_without_tls(url: str) -> None:
    read_mapping(make_content(target={"kind": "generic", "url": url}), "map.toml")


def test_a_file_that_is_missing_or_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.toml: .*No such file"):
        load_mapping(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("consumer = ")
    with pytest.raises(ConfigurationError, match=r"bad.toml: .*Invalid value"):
        load_mapping(tmp_path / "bad.toml")


_NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)


@settings(deadline=None, derandomize=True)
@given(_NAMES, st.sampled_from(["", "target", "key", "filter", "erased", "withdrawn"]))
def test_no_unknown_key_is_ever_ignored(name: str, table: str) -> None:
    known = {
        "": {*Mapping.__struct_fields__}, "target": {"kind", *HubSpot.__struct_fields__},
        "key": {"property", "parameter", "field"}, "filter": {"batches"}, "erased": {"properties"},
        "withdrawn": {"properties"},
    }[table]  # fmt: skip
    if name not in known:
        content = make_content()
        (content.setdefault(table, {}) if table else content)[name] = "x"
        with pytest.raises(ConfigurationError, match=f"^map.toml: {table}{'.' * bool(table)}{name} is not a key"):
            read_mapping(content, "map.toml")


@settings(deadline=None, derandomize=True)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(_NAMES, x)
    )
)
def test_any_content_is_accepted_or_refused_with_a_sentence(value: Any) -> None:
    for name in Mapping.__struct_fields__:
        with contextlib.suppress(ConfigurationError):
            read_mapping(make_content(**{name: "x"}) | {name: value}, "map.toml")


def digest(**changes: Any) -> str:
    return read_mapping(make_content(**changes), "map.toml").digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"consumer": "other"},
        {"target__batch_size": 7},
        {"properties__call_status": {"field": "status"}},
        {"properties__call_status": {"field": "status", "empty": "keep", "values": {}}},
        {"only_final": True},
        {"target__url": "https://api.hubapi.com"},
    ],
)
def test_a_mapping_that_sends_the_same_has_the_same_digest(changes: dict[str, Any]) -> None:
    assert digest(**changes) == digest()


CHANGES: list[dict[str, Any]] = [
    {"target__object_type": "deals"},
    {"target__url": "https://other.example.com"},
    {"target": {"kind": "generic", "url": "https://api.hubapi.com"}},
    {"key__parameter": "loan"},
    {"key": {"field": "phone", "property": "loan_id"}},
    {"key__property": "loan"},
    {"properties__x": "state"},
    {"properties__call_status": "state"},
    {"properties__call_status": {"field": "status", "empty": "clear"}},
    {"properties__call_status": {"field": "status", "values": {"busy": "B"}}},
    {"properties__call_status": {"field": "status", "values": {"busy": "B"}, "default": "C"}},
    {"properties__call_status": {"field": "status", "format": "date"}},
    {"constants__x": 1},
    {"only_final": False},
    {"time_zone": "Asia/Kolkata"},
    {"filter__batches": [456]},
    {"erased__properties": {"x": 1}},
    {"withdrawn__properties": {"x": 1}},
]


def test_any_change_of_what_is_sent_changes_the_digest() -> None:
    digests = [digest(), *(digest(**changes) for changes in CHANGES)]
    assert len(set(digests)) == len(digests)


def test_the_order_of_a_file_does_not_matter() -> None:
    turned = {name: SMALLEST[name] for name in reversed(SMALLEST)}
    assert read_mapping(turned, "map.toml").digest() == digest()

"""For all bodies: decoding never raises, keeps the body whole, and gives only what the database can hold."""

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.formant.events import Event, Unreadable
from tests.factories import make_payload
from tests.formant.decoding import check

_text = st.text(st.characters(), max_size=8) | st.sampled_from(
    [
        "\x00",
        "\ud800",
        "\udfff",
        "😀",
        "call.busy",
        "feedc0de-1",
        "x" * 300,
        "2026-03-16T10:31:00",
        "0001-01-01T00:00:00+01:00",
    ]
)
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | _text | st.sampled_from([10**400, -(10**20), 2**63])
)
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3))


def _paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = (
        [deeper for key, item in value.items() for deeper in _paths(item, (*path, key))]
        if isinstance(value, dict)
        else []
    )
    return [*([path] if path else []), *below]


_PAYLOAD = make_payload(attempt=1, final=False)
_mutations = st.lists(
    st.tuples(st.sampled_from(_paths(_PAYLOAD)), st.sampled_from(["replace", "remove", "add"]), _text, _values),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, derandomize=True, max_examples=250)
@given(body=st.binary(max_size=300))
def test_any_bytes_are_decoded_or_unreadable(body: bytes) -> None:
    assert isinstance(check(body), Unreadable)


@settings(deadline=None, derandomize=True, max_examples=250)
@given(mutations=_mutations, escaped=st.booleans())
def test_any_payload_near_the_contract_is_decoded_or_unreadable(mutations: list[Any], escaped: bool) -> None:
    payload = copy.deepcopy(_PAYLOAD)
    for path, action, name, value in mutations:
        inner: Any = payload
        for key in path[:-1]:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            continue
        if action == "remove":
            inner.pop(path[-1], None)
        else:
            inner[path[-1] if action == "replace" else name] = value
    text = json.dumps(payload, ensure_ascii=escaped)
    check(text.encode("utf-8", "surrogatepass"))


@settings(deadline=None, derandomize=True, max_examples=250)
@given(results=_values, parameters=_values, escaped=st.booleans())
def test_any_free_form_content_is_stored_as_far_as_it_can_be(results: Any, parameters: Any, escaped: bool) -> None:
    payload = copy.deepcopy(_PAYLOAD)
    payload["data"]["results"] = results
    payload["data"]["call"]["call_parameters"] = parameters
    text = json.dumps(payload, ensure_ascii=escaped)
    assert isinstance(check(text.encode("utf-8", "surrogatepass")), Event)


@settings(deadline=None, derandomize=True, max_examples=250)
@given(data=st.data())
def test_any_damage_to_a_valid_body_is_decoded_or_unreadable(data: st.DataObject) -> None:
    body = json.dumps(_PAYLOAD).encode()
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 6)))
    pieces = [b"\\u0000", b"\\ud800", b"\\", b'"', b"\x00", b"\xff", b"1e999", b"-", b"00", b"NaN", b"[" * 600, b"}"]
    damage = data.draw(st.binary(max_size=3) | st.sampled_from(pieces))
    check(body[:start] + damage + body[end:])

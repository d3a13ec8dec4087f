"""Declared parameters: what each takes, and that what it documents is what it takes."""

from typing import Any

import pytest

from service.errors import InvalidRequestError
from service.uploads.http import IDEMPOTENCY_KEY
from service.web.parameters import Choice, Flag, Number, Parameter, Percent, Text, TimeZone

LIMIT = Number("limit", "", default=20, minimum=-5, maximum=100)
TAKEN: list[tuple[Parameter[Any, Any], dict[str, object]]] = [
    (LIMIT, {"1": 1, "100": 100, "-5": -5, "007": 7, "-0": 0}),
    (Percent("share", "", default=None), {"0": 0.0, "100": 100.0, "62.5": 62.5, "1e1": 10.0}),
    (Flag("force", ""), {"true": True, "1": True, " TRUE ": True, "false": False, "0": False, "": False}),
    (Choice("state", "", ("held", "failed"), default=None), {"held": "held", "failed": "failed"}),
    (Text("name", "", default=None, maximum=5), {"April": "April", " May ": "May", "अप्रैल"[:5]: "अप्रैल"[:5]}),
    (TimeZone("zone", "", default="UTC"), {"Asia/Kolkata": "Asia/Kolkata", "UTC": "UTC"}),
    (IDEMPOTENCY_KEY, {'"march 1"': "march 1", "march-1": "march-1"}),
]
REFUSED: list[tuple[Parameter[Any, Any], list[str]]] = [
    (LIMIT, ["", "101", "-6", "1.0", "1_0", "+1", " 1", "٣", "9" * 20, "--1", "-", "0x1"]),
    (Percent("share", "", default=None), ["", "-1", "100.1", "nan", "inf", "1_0", "half"]),
    (Flag("force", ""), ["yes", "2", "tru"]),
    (Choice("state", "", ("held", "failed"), default=None), ["", "Held", "held,failed"]),
    (Text("name", "", default=None, maximum=5), ["", "  ", "August", "a\x00b"]),
    (TimeZone("zone", "", default="UTC"), ["", "Mars/Olympus", "../etc/passwd", "UTC\x00", "a" * 5000]),
    (IDEMPOTENCY_KEY, ["", '""', "march 1", '"a"b"', "é", "x" * 256]),
]


@pytest.mark.parametrize(("parameter", "texts"), TAKEN)
def test_what_is_meant_is_read(parameter: Parameter[Any, Any], texts: dict[str, object]) -> None:
    assert {text: parameter.parse(text) for text in texts} == texts


@pytest.mark.parametrize(("parameter", "texts"), REFUSED)
def test_everything_else_is_refused_by_the_parameters_name(parameter: Parameter[Any, Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(InvalidRequestError) as caught:
            parameter.parse(text)
        assert caught.value.message == f"{parameter.name}: takes {parameter.takes}"


def test_the_default_is_documented_where_there_is_one() -> None:
    assert LIMIT.schema == {"type": "integer", "minimum": -5, "maximum": 100, "default": 20}
    assert "default" not in Percent("share", "", default=None).schema
    assert Flag("force", "").schema["default"] is False


@pytest.mark.parametrize("parameter", [parameter for parameter, _ in TAKEN])
def test_the_text_that_a_parameter_calls_wrong_is(parameter: Parameter[Any, Any]) -> None:
    assert parameter.wrong_text is not None
    with pytest.raises(InvalidRequestError):
        parameter.parse(parameter.wrong_text)

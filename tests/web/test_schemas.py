"""Schemas of the code's own types: with the docs of their fields, and of what passes through unread."""

from datetime import datetime
from typing import Annotated, Any, Generic, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from service.outcomes.recipients_http import RecipientHistory
from service.web import schemas
from service.web.responses import One
from service.web.schemas import describe_shapes

Shape = TypeVar("Shape")


class Inner(msgspec.Struct):
    """What lies ``within``."""

    code: str


class Reported(TypedDict):
    """A dict."""

    inner: Inner


class Outer(msgspec.Struct):
    """What lies
    around it."""

    at: Annotated[datetime, Meta(tz=True)] | None
    word: Annotated[str, Meta(extra_json_schema={"enum": ["a", "b"]})] | None
    passed: Annotated[msgspec.Raw | None, Meta(extra={"shape": list[Inner]})]
    anything: Annotated[msgspec.Raw | None, Meta(extra={"shape": Any})]
    reported: Reported | None
    maybe: int | msgspec.UnsetType = msgspec.UNSET


class Frame(msgspec.Struct, Generic[Shape]):
    """A frame."""

    data: Shape


def test_a_type_is_described_with_all_that_it_refers_to() -> None:
    (schema,), components = describe_shapes([Frame[Outer]])
    assert schema == {"$ref": "#/components/schemas/Frame_Outer_"}
    assert list(components) == ["Frame_Outer_", "Inner", "Outer", "Reported"]
    outer = components["Outer"]
    assert outer["description"] == "What lies around it."
    assert outer["required"] == ["at", "word", "passed", "anything", "reported"]
    assert outer["properties"] == {
        "at": {"type": ["string", "null"], "format": "date-time"},
        "word": {"type": ["string", "null"], "enum": ["a", "b", None]},
        "passed": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
        "anything": {},
        "reported": {"anyOf": [{"$ref": "#/components/schemas/Reported"}, {"type": "null"}]},
        "maybe": {"type": "integer"},
    }
    assert components["Inner"]["description"] == "What lies `within`."


def test_the_strings_below_fields_are_their_descriptions_also_where_they_are_inherited() -> None:
    _, components = describe_shapes([One[RecipientHistory]])
    properties = components["RecipientHistory"]["properties"]
    assert properties["version"]["description"] == "How often the outcome has changed; null as of an earlier time."
    assert properties["parameters"] == {"type": "object", "description": "The other columns of its row."}
    assert (
        components["Fact"]["properties"]["won"]["description"]
        == "True if this fact is the one that counts for its attempt."
    )


def test_a_docstring_becomes_markdown_on_one_line() -> None:
    assert schemas.to_markdown("Either ``a``\n    or ``b``.") == "Either `a` or `b`."

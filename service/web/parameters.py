"""Parameters, declared once: what each takes, where it stands and what it means. They are read through the declaration
that documents them, so that the two cannot differ. Also small JSON bodies.

An operation lists ``LIMIT = Number("limit", "…", default=20, minimum=1, maximum=100)``, and its handler calls
``LIMIT.read(request)``. A wrong value is refused with the parameter's name and what it takes.
"""

import re
from collections.abc import Iterable, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar, cast

import msgspec
from phonenumbers import SUPPORTED_REGIONS
from starlette.datastructures import FormData
from starlette.requests import Request

from service.errors import ApiError, BodyTooLargeError, InvalidRequestError, NotFoundError
from service.spelling import MEANT, find_near, reduce, split_joined, split_words

Value = TypeVar("Value")
Default = TypeVar("Default")
Word = TypeVar("Word", bound=str)
Shape = TypeVar("Shape")
Place: TypeAlias = Literal["query", "path", "header"]
Schema: TypeAlias = dict[str, Any]

MAX_JSON_BYTES = 16 * 1024
SHOWN_CHARACTERS = 50
COMPANIONS = frozenset({
    "mode", "size", "run", "call", "calls", "send", "count", "only", "file", "code", "field", "column", "errors", "bad",
    "name", "first", "all", "is", "list", "number", "numbers", "rate",
})  # fmt: skip
"""Words that stand beside one with a meaning in the name of a field."""


class Parameter(Generic[Value, Default]):
    """A parameter; ``default`` is its value when absent, and ``takes`` completes "NAME: takes …"."""

    place: ClassVar[Place] = "query"
    refusal: ClassVar[type[ApiError] | None] = InvalidRequestError
    """What it raises for a wrong value; None where every value is valid."""
    is_required = False
    """Path parameters are always required; ``Form`` says which of its fields are."""

    is_impersonal: ClassVar[bool] = False
    """Whether its values are numbers, times or known words, so that none names a person."""
    is_repeatable: ClassVar[bool] = False
    """Whether it may be given several times."""
    is_exploded: ClassVar[bool | None] = None
    """Of a list: whether each value is a parameter of its own, or all stand in one, separated by commas."""
    words: tuple[str, ...] = ()
    """Words by which an unknown field of a form may mean this one: see ``Fields``."""

    def __init__(self, name: str, description: str, takes: str, schema: Schema, default: Default) -> None:
        self.name = name
        self.description = description
        self.takes = takes
        self.schema = schema if default is None or default == () else schema | {"default": default}
        self.default = default

    def with_hints(self, *, example: Any = None, words: tuple[str, ...] = ()) -> Self:
        """The same with an example for the API's document, and with ``words``."""
        other = copy(self)
        if example is not None:
            other.schema = {**self.schema, "examples": [example]}
        other.words = words
        return other

    def read(self, request: Request) -> Value | Default:
        """Its value in the request, or its default; raises InvalidRequestError."""
        text = (request.headers if self.place == "header" else request.query_params).get(self.name)
        return self.default if text is None else self.parse(text)

    def parse(self, text: str) -> Value:
        """The text's value; raises InvalidRequestError."""
        try:
            return self._parse(text)
        except (ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{self.name}: takes {self.takes}") from error

    def _parse(self, text: str) -> Value:
        """The text's value, by default the text; raises ValueError, or OverflowError for a time beyond the calendar."""
        return cast(Value, text)


class Number(Parameter[int, Default]):
    """A whole number in a range."""

    is_impersonal = True

    def __init__(self, name: str, description: str, *, default: Default, minimum: int, maximum: int) -> None:
        schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
        super().__init__(name, description, f"a whole number from {minimum} to {maximum}", schema, default)
        self._minimum = minimum
        self._maximum = maximum

    def _parse(self, text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= 19):
            raise ValueError(text)
        if not self._minimum <= int(text) <= self._maximum:
            raise ValueError(text)
        return int(text)


class Percent(Parameter[float, Default]):
    """A number from 0 to 100; not above 0 and at most 1, which may be meant as a fraction."""

    is_impersonal = True

    def __init__(self, name: str, description: str, *, default: Default) -> None:
        schema = {"type": "number", "minimum": 0, "maximum": 100}
        super().__init__(name, description, "a percentage from 0 to 100", schema, default)

    def _parse(self, text: str) -> float:
        percent = float(text)
        if "_" in text or not 0 <= percent <= 100:
            raise ValueError(text)
        if 0 < percent <= 1:
            meant = f"{percent * 100:.10g}"
            raise InvalidRequestError(f"{self.name}: is a percentage: send {meant} for {meant} %")
        return percent


class Flag(Parameter[bool, bool]):
    """``true`` or ``false`` (``1``, ``0``); false when it is absent or empty."""

    is_impersonal = True

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description, "true or false", {"type": "boolean"}, False)

    def _parse(self, text: str) -> bool:
        text = text.strip().lower()
        if text not in {"", "true", "false", "1", "0"}:
            raise ValueError(text)
        return text in {"true", "1"}


class Choice(Parameter[Word, Default]):
    """One of some words."""

    is_impersonal = True

    def __init__(self, name: str, description: str, choices: tuple[Word, ...], *, default: Default) -> None:
        schema = {"type": "string", "enum": list(choices)}
        super().__init__(name, description, f"one of {', '.join(choices)}", schema, default)
        self._choices = choices

    def _parse(self, text: str) -> Word:
        return self._choices[self._choices.index(text)]


class Choices(Parameter[tuple[Word, ...], tuple[Word, ...]]):
    """Some of some words, separated by commas; none when it is absent."""

    is_impersonal = True

    is_exploded = False

    def __init__(self, name: str, description: str, choices: tuple[Word, ...]) -> None:
        schema = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(choices)}}
        super().__init__(name, description, f"some of {', '.join(choices)}, separated by commas", schema, ())
        self._choices = choices

    def _parse(self, text: str) -> tuple[Word, ...]:
        return tuple(dict.fromkeys(self._choices[self._choices.index(word)] for word in text.split(",")))


class Repeated(Parameter[tuple[str, ...], tuple[str, ...]]):
    """Texts that their reader parses and checks, each given as a parameter of its own; none when it is absent."""

    is_repeatable = True
    is_exploded = True
    maximum: ClassVar[int] = 20

    def __init__(self, name: str, description: str, takes: str) -> None:
        schema = {"type": "array", "minItems": 1, "maxItems": self.maximum, "items": {"type": "string"}}
        super().__init__(name, description, takes, schema, ())

    def read(self, request: Request) -> tuple[str, ...]:
        """All its values; raises InvalidRequestError for an empty one, a NUL, and too many."""
        texts = tuple(request.query_params.getlist(self.name))
        if len(texts) > self.maximum:
            raise InvalidRequestError(f"{self.name}: was given {len(texts)} times; {self.maximum} are the most")
        if not all(texts) or any("\0" in text for text in texts):
            raise self.refuse()
        return texts

    def refuse(self) -> InvalidRequestError:
        """The error for a wrong value."""
        return InvalidRequestError(f"{self.name}: takes {self.takes}")


class Text(Parameter[str, Default]):
    """Text of a bounded length; surrounding whitespace is removed."""

    def __init__(self, name: str, description: str, *, default: Default, maximum: int) -> None:
        schema = {"type": "string", "minLength": 1, "maxLength": maximum}
        super().__init__(name, description, f"1 to {maximum} characters", schema, default)
        self._maximum = maximum

    def _parse(self, text: str) -> str:
        text = text.strip()
        if not 0 < len(text) <= self._maximum or "\x00" in text:
            raise ValueError(text)
        return text


class Region(Parameter[str, None]):
    """A country."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description, "a country's two letters: IN, or GB for the UK", {"type": "string"}, None)

    def _parse(self, text: str) -> str:
        region = text.strip().upper()
        if region not in SUPPORTED_REGIONS:
            raise ValueError(text)
        return region


class Free(Parameter[str, None]):
    """Text that its reader parses and checks itself."""

    def __init__(self, name: str, description: str, takes: str) -> None:
        super().__init__(name, description, takes, {"type": "string"}, None)


class Id(Parameter[int, None]):
    """An id in the path; anything but a number is an unknown ``what``."""

    is_impersonal = True

    place = "path"
    refusal = NotFoundError
    is_required = True

    def __init__(self, name: str, what: str, description: str) -> None:
        schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
        super().__init__(name, description, "a number", schema, None)
        self._what = what

    def read(self, request: Request) -> int:
        """The id; raises NotFoundError for text that cannot be one."""
        text: str = request.path_params[self.name]
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise NotFoundError(f"There is no {self._what} {text!r}")
        return int(text)


class PathChoice(Choice[Word, None]):
    """One of some words, in the path; any other is an unknown ``what``."""

    place = "path"
    refusal = NotFoundError
    is_required = True

    def __init__(self, name: str, what: str, description: str, choices: tuple[Word, ...]) -> None:
        super().__init__(name, description, choices, default=None)
        self._what = what

    def read(self, request: Request) -> Word:
        """The word; raises NotFoundError for any other."""
        text: str = request.path_params[self.name]
        try:
            return self._parse(text)
        except ValueError as error:
            raise NotFoundError(f"There is no {self._what} {text!r}; use {self.takes}") from error


class PathText(Parameter[str, None]):
    """Any text in the path."""

    place = "path"
    refusal = NotFoundError
    is_required = True

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description, "text", {"type": "string", "minLength": 1}, None)

    def read(self, request: Request) -> str:
        """The text, as it stands between two slashes."""
        return cast(str, request.path_params[self.name])


class Header(Parameter[str, None]):
    """Any text in a header."""

    place = "header"
    refusal = None

    def __init__(self, name: str, description: str, *, is_required: bool = False) -> None:
        super().__init__(name, description, "text", {"type": "string"}, None)
        self.is_required = is_required


class Fields:
    """The fields of a form, or else query parameters of the same name.

    Unknown fields are ignored, as the provider does, unless they look like a slip of one of ``declared``: ``dryrun``
    ignored would call people. Raises InvalidRequestError for a slip, also within an unknown field's value, for a
    declared field that is empty or a file, and for an unknown field with one of the words of ``refused``, or with
    nothing but words of ``refused_alone``; these give the reasons.
    """

    def __init__(
        self,
        request: Request,
        form: FormData,
        declared: tuple[Parameter[Any, Any], ...],
        refused: Mapping[str, str] = MappingProxyType({}),
        refused_alone: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._values: dict[str, set[str]] = {}
        known = {parameter.name: parameter for parameter in declared}
        for name, value in (*form.multi_items(), *request.query_params.multi_items()):
            if name not in known:
                words = _find_words(name, {*refused, *refused_alone, *(w for one in declared for w in one.words)})
                _refuse_slip(name, words, declared)
                _refuse_content(name, value, declared)
                reasons = [refused[word] for word in words if word in refused]
                if set(words) <= refused_alone.keys():
                    reasons += [refused_alone[word] for word in words]
                if reason := next(filter(None, reasons), ""):
                    raise InvalidRequestError(f"{name[:SHOWN_CHARACTERS]}: {reason}")
            elif not isinstance(value, str):
                raise InvalidRequestError(f"{name}: is a file; it takes {known[name].takes}")
            elif known[name].place == "header":
                raise InvalidRequestError(f"{name}: send it as a header")
            elif not value.strip():
                raise InvalidRequestError(f"{name}: is empty; it takes {known[name].takes}, or leave it out")
            else:
                self._values.setdefault(name, set()).add(value.strip())
        refuse_fields_in_headers(request, declared)

    def read(self, parameter: Parameter[Value, Default]) -> Value | Default:
        """The field's value, or its default; raises InvalidRequestError, also where form and query differ."""
        given = self._values.get(parameter.name, set())
        if len(given) > 1:
            raise InvalidRequestError(f"{parameter.name}: was given twice, with different values")
        return parameter.parse(next(iter(given))) if given else parameter.default

    def require(self, parameter: Parameter[Value, Default]) -> Value:
        """Like ``read``, for a required field."""
        value = self.read(parameter)
        if value is None:
            raise InvalidRequestError(f"{parameter.name}: is missing; it takes {parameter.takes}")
        return cast(Value, value)


def _find_words(name: str, known: set[str]) -> list[str]:
    """The words of a name, also those that are written together if they make it up wholly; and all of it as one."""
    known_parts = known | COMPANIONS
    parts = [
        part
        for word in split_words(name)
        for part in ([word] if word in known else split_joined(word, known_parts) or [word])
    ]
    return [*parts, *({reduce(name)} & known)]


def _refuse_content(name: str, value: object, declared: tuple[Parameter[Any, Any], ...]) -> None:
    """Raises InvalidRequestError for a value that names a field of more than one word, as in ``{"dry_run": true}``."""
    for parameter in declared:
        words = split_words(parameter.name)
        pattern = rf"(?i)(?<![a-z]){'[_-]?'.join(words)}(?![a-z])"
        if len(words) > 1 and isinstance(value, str) and re.search(pattern, value):
            raise InvalidRequestError(
                f"{name[:SHOWN_CHARACTERS]}: is not a field of this call, and its value names {parameter.name}, which "
                "has to be sent by itself"
            )


def _refuse_slip(name: str, found: Iterable[str], declared: tuple[Parameter[Any, Any], ...]) -> None:
    words, letters = set(found), reduce(name)
    names = {parameter.name: parameter for parameter in declared}
    near = find_near(name, names, MEANT)
    meant = [near] if near else [
        parameter.name
        for parameter in declared
        if words & set(parameter.words) or (len(reduce(parameter.name)) >= 6 and reduce(parameter.name) in letters)
    ]  # fmt: skip
    if meant:
        wanted = " or ".join(f"the header {one}" if names[one].place == "header" else one for one in meant)
        raise InvalidRequestError(f"{name[:SHOWN_CHARACTERS]}: is not a field of this call; did you mean {wanted}?")


def refuse_fields_in_headers(request: Request, declared: tuple[Parameter[Any, Any], ...]) -> None:
    """Raises InvalidRequestError for a header with the name of a field, or with a slip in that of another header."""
    by_letters = {reduce(parameter.name): parameter for parameter in declared}
    headers = [parameter.name for parameter in declared if parameter.place == "header"]
    for name in request.headers:
        letters = reduce(name).removeprefix("x").removeprefix("outcomes")
        near = find_near(letters, headers, MEANT)
        meant = by_letters.get(reduce(near) if near else letters)
        if meant is None or (meant.place == "header" and name == meant.name.lower()):
            continue
        place = "the header" if meant.place == "header" else "the form's field"
        raise InvalidRequestError(f"{name}: is not a header of this call; did you mean {place} {meant.name}?")


async def refuse_body(request: Request, reason: str) -> None:
    """Raises InvalidRequestError for a body that says anything: one that is not empty, ``{}`` or ``null``."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            break
    if body.strip() not in {b"", b"{}", b"null"}:
        raise InvalidRequestError(f"The body: {reason}")


async def read_json(request: Request, shape: type[Shape], example: str, *, maximum: int = MAX_JSON_BYTES) -> Shape:
    """The body as ``shape``. Raises InvalidRequestError, which names what is wrong and shows the example, or
    BodyTooLargeError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > maximum:
            raise BodyTooLargeError(f"The body is over {maximum} bytes: send JSON such as {example}")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"The body: {error}; send JSON such as {example}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"The body is not JSON: send JSON such as {example}") from error

"""Parameters, declared once: what each takes, where it stands and what it means. They are read through the declaration
that documents them, so that the two cannot differ.

``LIMIT = Number("limit", "…", default=20, minimum=1, maximum=100)`` is named in its operation, and its handler calls
``LIMIT.read(request)``. What is wrong is refused with the parameter's name and with what it takes.
"""

from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, cast

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request

from service.errors import ApiError, InvalidRequestError, NotFoundError

Value = TypeVar("Value")
Default = TypeVar("Default")
Word = TypeVar("Word", bound=str)
Place: TypeAlias = Literal["query", "path", "header"]
Schema: TypeAlias = dict[str, Any]


class Parameter(Generic[Value, Default]):
    """A parameter; ``default`` is what its absence means, and ``takes`` completes "NAME: takes …"."""

    place: ClassVar[Place] = "query"
    refusal: ClassVar[type[ApiError] | None] = InvalidRequestError
    """What it raises for a wrong value; None where it takes any."""
    is_required = False
    """Whether it must be there: in the path always, in a form by its ``Form``."""

    def __init__(self, name: str, description: str, takes: str, schema: Schema, default: Default) -> None:
        self.name = name
        self.description = description
        self.takes = takes
        self.schema = schema if default is None else schema | {"default": default}
        self.default = default

    def read(self, request: Request) -> Value | Default:
        """What the request has for it, or its default; raises InvalidRequestError."""
        text = (request.headers if self.place == "header" else request.query_params).get(self.name)
        return self.default if text is None else self.parse(text)

    def parse(self, text: str) -> Value:
        """The text's value; raises InvalidRequestError."""
        try:
            return self._parse(text)
        except (ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{self.name}: takes {self.takes}") from error

    def _parse(self, text: str) -> Value:
        """The text's value; raises ValueError, or OverflowError for a time beyond the calendar."""
        raise NotImplementedError


class Number(Parameter[int, Default]):
    """A whole number in a range."""

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
    """A number from 0 to 100."""

    def __init__(self, name: str, description: str, *, default: Default) -> None:
        schema = {"type": "number", "minimum": 0, "maximum": 100}
        super().__init__(name, description, "a percentage from 0 to 100", schema, default)

    def _parse(self, text: str) -> float:
        percent = float(text)
        if "_" in text or not 0 <= percent <= 100:
            raise ValueError(text)
        return percent


class Flag(Parameter[bool, bool]):
    """``true`` or ``false`` (``1``, ``0``); false when it is absent or empty."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description, "true or false", {"type": "boolean"}, False)

    def _parse(self, text: str) -> bool:
        text = text.strip().lower()
        if text not in {"", "true", "false", "1", "0"}:
            raise ValueError(text)
        return text in {"true", "1"}


class Choice(Parameter[Word, Default]):
    """One of some words."""

    def __init__(self, name: str, description: str, choices: tuple[Word, ...], *, default: Default) -> None:
        schema = {"type": "string", "enum": list(choices)}
        super().__init__(name, description, f"one of {', '.join(choices)}", schema, default)
        self._choices = choices

    def _parse(self, text: str) -> Word:
        return self._choices[self._choices.index(text)]


class Text(Parameter[str, Default]):
    """Some text of a bounded length, without surrounding blanks."""

    def __init__(self, name: str, description: str, *, default: Default, maximum: int) -> None:
        schema = {"type": "string", "minLength": 1, "maxLength": maximum}
        super().__init__(name, description, f"1 to {maximum} characters", schema, default)
        self._maximum = maximum

    def _parse(self, text: str) -> str:
        text = text.strip()
        if not 0 < len(text) <= self._maximum or "\x00" in text:
            raise ValueError(text)
        return text


class Free(Parameter[str, None]):
    """Text that its reader takes apart and checks itself; ``takes`` says what for."""

    def __init__(self, name: str, description: str, takes: str) -> None:
        super().__init__(name, description, takes, {"type": "string"}, None)

    def _parse(self, text: str) -> str:
        return text


class Id(Parameter[int, None]):
    """An id in the path; what is no number is an unknown ``what``."""

    place = "path"
    refusal = NotFoundError
    is_required = True

    def __init__(self, name: str, what: str, description: str) -> None:
        schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
        super().__init__(name, description, "a number", schema, None)
        self._what = what

    def read(self, request: Request) -> int:
        """The id; raises NotFoundError for what cannot be one."""
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
            raise NotFoundError(f"There is no {self._what} {text!r}: it is {self.takes}") from error


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

    def _parse(self, text: str) -> str:
        return text


class Fields:
    """The fields of a form; what it lacks is looked for among the query parameters. A blank field is an absent one."""

    def __init__(self, form: FormData, query: QueryParams) -> None:
        self._form = form
        self._query = query

    def read(self, parameter: Parameter[Value, Default]) -> Value | Default:
        """The field's value, or its default; raises InvalidRequestError, also where form and query differ."""
        name = parameter.name
        values = (*self._form.getlist(name), *self._query.getlist(name))
        given = {value.strip() for value in values if isinstance(value, str)}
        if len(given) > 1:
            raise InvalidRequestError(f"{name}: was given twice, with different values")
        text = given.pop() if given else ""
        return parameter.parse(text) if text else parameter.default

    def require(self, parameter: Parameter[Value, Default]) -> Value:
        """As ``read``, of a field that must be there."""
        value = self.read(parameter)
        if value is None:
            raise InvalidRequestError(f"{parameter.name}: is missing; it takes {parameter.takes}")
        return cast(Value, value)

"""Number formats of spreadsheets (ECMA-376, part 1, section 18.8.31): a number as its cell shows it.

Three differences keep a number usable as a phone or a parameter: thousands are not separated, an exponent is never
written, and a cell without a format shows all its digits. Fractions are not read: a number of seven digits or more
becomes ``UNREAD``, an error of its row, because a part that is not read may be a country code.
"""

import math
import operator
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from typing import NamedTuple

EXACT = 15
"""Digits that a spreadsheet keeps of a number."""
UNREAD = "#FORMAT!"
MAX_CHARACTERS = 255
"""A spreadsheet takes no longer format."""
_LEAST_UNREAD = 10**6
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[\$(?P<currency>[^\]-]*)[^\]]*\]|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<general>general|standard)|(?P<exponent>e[+-](?=[0#?]))|(?P<digits>[0#?]+)|(?P<other>.)",
    re.DOTALL | re.IGNORECASE,
)
_COLOURS = re.compile(r"(?:black|blue|cyan|green|magenta|red|white|yellow|colou?r *\d+)", re.IGNORECASE)
_CONDITION = re.compile(r"(<=|>=|<>|<|>|=) *([+-]?[0-9]+(?:\.[0-9]+)?)")
_ELAPSED = re.compile(r"h{1,9}|m{1,9}|s{1,9}", re.IGNORECASE)
_SECONDS = re.compile(r"s\]?[.,]0+", re.IGNORECASE)
_COMPARE: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<>": operator.ne, "<": operator.lt, ">": operator.gt, "=": operator.eq,
}  # fmt: skip
_ARITHMETIC = Context(prec=1000)
"""Enough for the digits of any float and any format."""


class _UnreadFormatError(Exception):
    """The format has a part that is not read here."""


class _Section(NamedTuple):
    parts: list[tuple[str, str]]
    """``digits``, ``point``, ``percent``, ``thousand`` (divides by it), ``all`` (all digits, or the text), ``text``."""
    condition: tuple[str, Decimal] | None

    def holds(self, number: Decimal) -> bool:
        return self.condition is not None and _COMPARE[self.condition[0]](number, self.condition[1])


def show_number(value: float, number_format: str) -> str:
    """A number as a cell of this format shows it, such as ``+919876543210`` for ``"+"0``."""
    if number_format in {"General", "@", ""} or not math.isfinite(value):
        return write_digits(value)
    try:
        return _show(Decimal(write_digits(value)), _read_format(number_format))
    except _UnreadFormatError:
        return write_digits(value) if abs(value) < _LEAST_UNREAD else UNREAD


def show_text(text: str, number_format: str) -> str:
    """A text as a cell of this format shows it, such as ``Mr. Rao`` for ``"Mr. "@``."""
    if number_format in {"General", "@", ""}:
        return text
    try:
        sections = _read_format(number_format)
    except _UnreadFormatError:
        return text
    last = sections[-1].parts
    if len(sections) < 4 and not any(part == ("all", "@") for part in last):
        return text
    return "".join(text if kind == "all" else shown for kind, shown in (sections[3].parts if sections[3:] else last))


def show_duration(value: timedelta, number_format: str) -> str:
    """A duration as ``[h]:mm`` shows it: 36:00."""
    seconds = round(abs(value).total_seconds())
    sign = "-" if value < timedelta() and seconds else ""
    elapsed = re.search(r"\[(h+|m+|s+)\]", number_format, re.IGNORECASE)
    unit, width = (elapsed[1][0].lower(), len(elapsed[1])) if elapsed else ("h", 1)
    has_seconds = "s" in number_format[elapsed.end() if elapsed else 0 :].lower()
    first, rest = divmod(seconds, {"h": 3600, "m": 60, "s": 1}[unit])
    shown = f"{sign}{first:0{width}d}"
    if unit == "h":
        shown += f":{rest // 60:02d}"
    return f"{shown}:{rest % 60:02d}" if has_seconds and unit != "s" else shown


@lru_cache(maxsize=1024)
def shows_digits(number_format: str) -> bool:
    """Whether a format shows a number, and not a day or a time."""
    kinds = [
        (match.lastgroup, match[0]) for match in _TOKEN.finditer(_SECONDS.sub("s", number_format[:MAX_CHARACTERS]))
    ]
    if any(kind == "bracket" and _ELAPSED.fullmatch(text[1:-1]) for kind, text in kinds):
        return False
    return any(kind in {"digits", "general"} for kind, _ in kinds)


def write_digits(value: float) -> str:
    """A number with all its digits and without an exponent: 919876543210, not 9.19876543210e+11."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    text = f"{Decimal(f'{value:.{EXACT}g}'):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _show(number: Decimal, sections: list[_Section]) -> str:
    section = _choose_section(number, sections)
    is_signed = number < 0
    if section.condition is None:
        is_signed = is_signed and (section is sections[0] or any(one.condition for one in sections))
    elif section.condition[0] in {"<", "<="}:
        is_signed = is_signed and section.condition[1] > 0
    if not section.parts and len(sections) > 1:
        return ""
    return ("-" if is_signed else "") + _fill(section.parts, abs(number))


def _choose_section(number: Decimal, sections: list[_Section]) -> _Section:
    sections = sections[:3]
    first, last = sections[0], sections[-1]
    conditions = [section for section in sections if section.condition]
    if conditions:
        found = next((section for section in conditions if section.holds(number)), None)
        others = [section for section in sections if not section.condition]
        if found is None and not others:
            raise _UnreadFormatError  # a spreadsheet shows ####
        return found or (others[0] if number < 0 else others[-1])
    if number < 0 and len(sections) > 1:
        return sections[1]
    return last if number == 0 and len(sections) > 2 else first


def _fill(parts: list[tuple[str, str]], number: Decimal) -> str:
    """A section of a format with the digits of a number that is not negative."""
    holders = [at for at, (kind, _) in enumerate(parts) if kind == "digits"]
    number = _ARITHMETIC.scaleb(number, sum({"percent": 2, "thousand": -3}.get(kind, 0) for kind, _ in parts))
    if not holders:
        everything = f"{number:f}"
        return "".join(everything if kind == "all" else text for kind, text in parts).strip()
    if any(kind == "all" for kind, _ in parts):
        raise _UnreadFormatError
    point = next((at for at, (kind, _) in enumerate(parts) if kind == "point"), len(parts))
    decimals = "".join(text for kind, text in parts[point:] if kind == "digits")
    rounded = number.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP, _ARITHMETIC)
    whole, _, fraction = f"{rounded:f}".partition(".")
    while len(fraction) > len(decimals.rstrip("#?")) and fraction.endswith("0"):
        fraction = fraction[:-1]
    whole = whole.lstrip("0")
    shown: list[str] = []
    for at in range(point - 1, -1, -1):  # from the right: what is left over belongs to the first placeholder
        kind, text = parts[at]
        if kind != "digits":
            shown.append(text)
            continue
        taken = whole if at == holders[0] else whole[-len(text) :]
        whole = whole[: len(whole) - len(taken)]
        zeros = len(text) - len(text.lstrip("#?"))
        shown.append("0" * (len(text) - zeros - len(taken)) + taken)
    if whole:
        shown.append(whole)  # of a format that begins with the point
    for kind, text in parts[point:]:
        if kind == "point":
            shown.insert(0, "." if fraction else "")
        elif kind == "digits":
            shown.insert(0, fraction[: len(text)])
            fraction = fraction[len(text) :]
        else:
            shown.insert(0, text)
    return "".join(reversed(shown)).strip()


@lru_cache(maxsize=1024)
def _read_format(number_format: str) -> list[_Section]:
    if len(number_format) > MAX_CHARACTERS:
        raise _UnreadFormatError
    sections: list[list[re.Match[str]]] = [[]]
    for match in _TOKEN.finditer(number_format):
        if match["other"] == ";":
            sections.append([])
        else:
            sections[-1].append(match)
    return [_read_section(tokens) for tokens in sections]


def _read_section(tokens: list[re.Match[str]]) -> _Section:
    parts: list[tuple[str, str]] = []
    condition = None
    for at, match in enumerate(tokens):
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        if match["digits"]:
            parts.append(("digits", match[0]))
        elif match["bracket"] is not None:
            condition = _read_bracket(match["bracket"].strip()) or condition
        elif match["exponent"]:
            parts.append(("exponent", ""))
        elif match["general"]:
            parts.append(("all", ""))
        elif match["other"]:
            parts.append(_read_other(match["other"], parts, after))
        else:
            parts.append(("text", match["quoted"] or match["escaped"] or match["currency"] or ""))
    return _Section(_drop_exponent(parts), condition)


def _read_other(other: str, parts: list[tuple[str, str]], after: re.Match[str] | None) -> tuple[str, str]:
    """The part that a character is between ``parts`` and the token ``after`` it."""
    if other == "@":
        return "all", "@"
    if other == "%":
        return "percent", "%"
    if other == "." and _is_point(parts, after):
        return "point", "."
    if other == "/" and after is not None and (after["digits"] or after[0].isdigit()):
        raise _UnreadFormatError  # a fraction
    if other == "," and parts and parts[-1][0] in {"digits", "thousand"}:
        return ("text", "") if after is not None and after["digits"] else ("thousand", "")
    return "text", other


def _is_point(parts: list[tuple[str, str]], after: re.Match[str] | None) -> bool:
    """Whether a dot is the decimal point, and not that of ``Rs. 0``."""
    kind, text = parts[-1] if parts else ("", "")
    is_beside_digits = kind in {"digits", "thousand"} or (after is not None and bool(after["digits"]))
    return is_beside_digits and not text.isalpha() and not any(kind == "point" for kind, _ in parts)


def _read_bracket(text: str) -> tuple[str, Decimal] | None:
    if condition := _CONDITION.fullmatch(text):
        return condition[1], Decimal(condition[2])
    if not _COLOURS.fullmatch(text):
        raise _UnreadFormatError
    return None


def _drop_exponent(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parts with all digits in the place of those around an exponent."""
    kinds = [kind for kind, _ in parts]
    if "exponent" not in kinds:
        return parts
    numeric = [at for at, kind in enumerate(kinds) if kind in {"digits", "point", "exponent"}]
    if kinds.count("exponent") > 1 or numeric != list(range(numeric[0], numeric[-1] + 1)):
        raise _UnreadFormatError
    return [*parts[: numeric[0]], ("all", ""), *parts[numeric[-1] + 1 :]]

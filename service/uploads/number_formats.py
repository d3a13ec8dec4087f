"""Number formats of spreadsheets (ECMA-376, part 1, section 18.8.31): a number as its cell shows it.

Three differences keep a number usable as a phone or a parameter: thousands are not separated, an exponent is never
written, and a cell without a format shows all its digits. Conditions, fractions and scaling are not read: such a number
is written with all its digits too.
"""

import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

EXACT = 15
"""Digits that a spreadsheet keeps of a number."""
_TOKEN = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[\$([^\]-]*)[^\]]*\]|\[([^\]]*)\]|([0#?]+)|(.)', re.DOTALL)
_COLOURS = re.compile(r"(?:black|blue|cyan|green|magenta|red|white|yellow|colou?r *\d+)", re.IGNORECASE)
_SECTIONS = re.compile(r'((?:"[^"]*"|\\.|[_*].|\[[^\]]*\]|[^;"\\])*)(?:;|$)', re.DOTALL)
_SHOWN = frozenset("$-+():!^&'~{}<>= €£¥₹")
"""Characters that stand for themselves without quotes."""


class _UnreadFormatError(Exception):
    """The format has a part that is not read here."""


def show_number(value: float, number_format: str) -> str:
    """A number as a cell of this format shows it, such as ``+919876543210`` for ``"+"0``."""
    if number_format.strip().lower() in {"", "general", "@"}:
        return write_digits(value)
    try:
        return _show(value, number_format)
    except (_UnreadFormatError, InvalidOperation):
        return write_digits(value)


def write_digits(value: float) -> str:
    """A number with all its digits and without an exponent: 919876543210, not 9.19876543210e+11."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 10**EXACT:
        return str(int(value))
    text = f"{value:.{EXACT}g}"
    return f"{value:.{EXACT}f}".rstrip("0").rstrip(".") if "e-" in text else text.replace("e+", "E+")


def _show(value: float, number_format: str) -> str:
    sections = _SECTIONS.findall(number_format)[:3]
    number = Decimal(write_digits(value))
    if number < 0 and len(sections) > 1 and sections[1]:
        return _fill(sections[1], -number)
    if number == 0 and len(sections) > 2 and sections[2]:
        return _fill(sections[2], number)
    return ("-" if number < 0 else "") + _fill(sections[0], abs(number))


def _fill(section: str, number: Decimal) -> str:
    """A section of a format with the digits of a number that is not negative."""
    parts = _read_section(section)
    holders = [at for at, (kind, _) in enumerate(parts) if kind == "digits"]
    if not holders:
        raise _UnreadFormatError
    point = next((at for at, (kind, _) in enumerate(parts) if kind == "point"), len(parts))
    number *= 100 ** sum(kind == "percent" for kind, _ in parts)
    decimals = "".join(text for kind, text in parts[point:] if kind == "digits")
    rounded = number.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
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
    for kind, text in parts[point:]:
        if kind == "point":
            shown.insert(0, "." if fraction else "")
        elif kind == "digits":
            shown.insert(0, fraction[: len(text)])
            fraction = fraction[len(text) :]
        else:
            shown.insert(0, text)
    return "".join(reversed(shown)).strip()


def _read_section(section: str) -> list[tuple[str, str]]:
    """The parts of a section: digits, the point, percent signs, and texts."""
    parts: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(section):
        quoted, escaped, currency, bracket, digits, other = match.groups()
        if digits:
            parts.append(("digits", digits))
        elif bracket is not None:
            if not _COLOURS.fullmatch(bracket.strip()):
                raise _UnreadFormatError
        elif other == ".":
            parts.append(("point", "."))
        elif other == "%":
            parts.append(("percent", "%"))
        elif other == ",":
            if not parts or parts[-1][0] != "digits" or not re.match(r"[0#?]", section[match.end() :]):
                raise _UnreadFormatError  # a comma behind the digits divides by a thousand
        elif other is not None and other not in _SHOWN:
            raise _UnreadFormatError
        else:
            parts.append(("text", quoted or escaped or currency or other or ""))
    return parts

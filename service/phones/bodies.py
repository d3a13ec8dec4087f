"""Finds phone numbers in bytes from outside, in any encoding and spelling.

Recognised: UTF-8, UTF-16 and UTF-32 with or without a byte order mark, JSON's ``\\u0039`` (also escaped twice),
percent-encoding, digits of any script, and blanks, dashes, dots, slashes and the like between digits; a number with its
country code, with ``00`` in front, or national. Not recognised: compressed, encrypted or base64 content.
"""

import codecs
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from urllib.parse import unquote

import phonenumbers
from phonenumbers import PhoneMetadata

from service.phones.parsing import fold

MAX_NUMBERS = 1000
_MAX_SPANS = 20_000
_SHORTEST_NATIONAL = 7
"""Fewer digits without a country code could be anything."""
_BETWEEN = r"[\s()\[\]./\\_~\u00b7-]{0,4}"
_SPAN = re.compile(rf"[0-9](?:{_BETWEEN}[0-9])*")
_GROUP = re.compile("[0-9]+")
_ESCAPED = re.compile(r"(?<!\\)\\+u([0-9a-fA-F]{4})")
_NOT_DIGITS = bytes(byte for byte in range(256) if not 0x30 <= byte <= 0x39)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip


def names_phone(body: bytes, phone: str) -> bool:
    """Whether ``body`` contains ``phone``, which is in E.164."""
    sought = _find_pattern(phone)
    if not _is_plain(body):
        return sought.pattern.search(read_text(body)) is not None
    # A fast check that rules out most bodies.
    has_digits = sought.digits in body.translate(None, _NOT_DIGITS)
    return has_digits and sought.pattern.search(body.decode("ascii")) is not None


def find_numbers(body: bytes) -> list[str]:
    """The digits of possible phone numbers in ``body``, with each combination of adjacent digit groups; at most the
    first 1,000."""
    found: dict[str, None] = {}
    for number in _list_numbers(read_text(body)):
        found[number] = None
        if len(found) == MAX_NUMBERS:
            break
    return list(found)


def read_text(body: bytes) -> str:
    """The text of ``body`` with escapes decoded and digits in ASCII."""
    text = body.decode(_find_encoding(body), errors="replace")
    if "\\u" in text:
        text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    return fold(unquote(text) if "%" in text else text)


def calling_code(phone: str) -> str:
    """The country code of a phone in E.164."""
    return str(phonenumbers.parse(phone).country_code)


class _PhonePattern:
    def __init__(self, phone: str) -> None:
        number = phonenumbers.parse(phone)
        code, national = str(number.country_code), phonenumbers.national_significant_number(number)
        metadata = PhoneMetadata.metadata_for_region(phonenumbers.region_code_for_country_code(int(code)) or "", None)
        trunk = (metadata.national_prefix if metadata else None) or "0"
        written = _BETWEEN.join(national)
        international = rf"(?:0{{0,2}}|011){_BETWEEN}{_BETWEEN.join(code)}{_BETWEEN}0?{_BETWEEN}"
        prefix = international if len(national) < _SHORTEST_NATIONAL else rf"(?:{international}|{trunk}{_BETWEEN}|0)?"
        self.digits = national.encode()
        self.pattern = re.compile(rf"(?<![0-9]){prefix}{written}(?![0-9])")


_find_pattern = lru_cache(maxsize=16)(_PhonePattern)


def _is_plain(body: bytes) -> bool:
    """Whether no digit in ``body`` is escaped or encoded."""
    return body.isascii() and b"\\u" not in body and b"%" not in body and b"\x00" not in body


def _find_encoding(body: bytes) -> str:
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return encoding
    start = body[:1024]
    # In UTF-16 and UTF-32 the upper bytes of JSON digits and punctuation are zero.
    zeros = [start[place::4].count(0) * 8 > len(start) for place in range(4)]
    if zeros == [False, True, True, True]:
        return "utf-32-le"
    if zeros == [True, True, True, False]:
        return "utf-32-be"
    if zeros[1] and zeros[3]:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] and zeros[2] else "utf-8"


def _list_numbers(text: str) -> Iterator[str]:
    for span in islice(_SPAN.finditer(text), _MAX_SPANS):
        groups = _GROUP.findall(span[0])
        for first in range(len(groups)):
            number = ""
            for group in groups[first : first + 17]:
                number += group
                if len(number) > 17:
                    break
                if len(number) >= _SHORTEST_NATIONAL:
                    yield number

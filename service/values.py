"""Text from the environment and from configuration files, cleaned or refused in this one place.

Accidental text around a value is removed: a byte order mark, whitespace, line ends. Inside a value, an invisible
character or one that looks like ASCII is refused: a secret with such a character verifies no webhook. A message names
the setting and the place, and quotes nothing of the value.
"""

import codecs
import re
import unicodedata
from pathlib import Path

from service.errors import ConfigurationError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_AROUND = re.compile(r"^[\s\ufeff]+|[\s\ufeff]+$")
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "”": "”", "’": "’"}
_DASHES_AND_QUOTES = frozenset({"Pd", "Pi", "Pf"})
_WORD = re.compile(r"[^\W\d_]+")


def read_text_file(path: Path) -> str:
    """A file's text: UTF-8, or UTF-16 or UTF-32 if it begins with their byte order mark. Raises OSError or
    UnicodeDecodeError."""
    content = path.read_bytes()
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    return content.decode("utf-8-sig")


def explain_unread(error: Exception) -> str:
    """Why ``read_text``, or a reader of its text, failed: in the system's words without its number."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def clean(name: str, text: str) -> str:
    """The value of the setting ``name`` without surrounding whitespace; raises ConfigurationError for one in quotes, or
    with an invisible character."""
    value = _AROUND.sub("", text)
    for place, character in enumerate(value, 1):
        if character in "\r\n":
            raise ConfigurationError(f"{name} takes one line: there is a line break after {place - 1} characters")
        category = unicodedata.category(character)
        if category in _INVISIBLE or (category == "Zs" and character != " "):
            raise ConfigurationError(
                f"{name} takes visible characters: number {place} is U+{ord(character):04X}; type it again by hand"
            )
    if len(value) > 1 and _QUOTES.get(value[0]) == value[-1]:
        raise ConfigurationError(f"{name} takes its value without the quotes around it")
    return value


def clean_secret(name: str, text: str) -> str:
    """Like ``clean``; also refuses a character that looks like an ASCII one."""
    value = clean(name, text)
    place = _find_look_alike(value)
    if place:
        raise ConfigurationError(
            f"{name} takes no look-alikes: character {place} looks like ASCII but is not; copy it again"
        )
    return value


def clean_key(name: str, text: str) -> str:
    """Like ``clean_secret``, for a key that is sent in an Authorization header."""
    value = clean_secret(name, text)
    for place, character in enumerate(value, 1):
        if not "!" <= character <= "~":
            raise ConfigurationError(f"{name} takes ASCII without spaces: see character {place}; copy only the key")
    return value


def _find_look_alike(value: str) -> int:
    """The place of the first look-alike, counted from 1; 0 without one."""
    for place, character in enumerate(value, 1):
        if not character.isascii():
            plain = unicodedata.normalize("NFKC", character)
            if plain.isascii() or unicodedata.category(character) in _DASHES_AND_QUOTES:
                return place
    for word in _WORD.finditer(value):
        alien = [place for place, letter in enumerate(word[0], word.start() + 1) if _is_cyrillic_or_greek(letter)]
        if alien and any(letter.isascii() for letter in word[0]):
            return alien[0]
    return 0


def _is_cyrillic_or_greek(letter: str) -> bool:
    return "\u0370" <= letter <= "\u052f"

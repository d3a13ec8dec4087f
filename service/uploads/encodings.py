"""The encoding of a text file: stated by its first bytes, or UTF-8, or guessed by rules that refuse rather than err.

A wrong guess speaks a wrong name to a person, so only what the bytes show is taken:

- A byte order mark states UTF-8, UTF-16 or UTF-32. UTF-16 without one shows in the zero bytes of its ASCII letters.
- A file that decodes as UTF-8 is UTF-8: accented text in another encoding practically never does.
- A file with both intact and broken UTF-8 characters is damaged UTF-8, unless the broken ones are at least ten times
  as many; so is one that is cut within its last character. The rows with broken characters are errors.
- Otherwise it is Windows-1252 or Mac Roman if its text then looks Western: accented letters between plain ones, in the
  case of their neighbours. Where it does not, it is read as UTF-8, and the rows are errors.

Libraries that guess from a sample were tried: on lists of names they take Windows-1252 for cp1250 in every second file,
and Cyrillic for Mac Roman.
"""

import codecs
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 2**20
SAMPLE_BYTES = 2**12
SUSPECT_CHARACTERS = 2000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_WESTERN = (("cp1252", "Windows-1252"), ("mac_roman", "Mac Roman"))
_STATED = {
    "utf-8": ("utf-8-sig", "UTF-8"),
    "windows-1250": ("cp1250", "Windows-1250"),
    "windows-1251": ("cp1251", "Windows-1251"),
    "windows-1252": ("cp1252", "Windows-1252"),
    "windows-1254": ("cp1254", "Windows-1254"),
    "mac-roman": ("mac_roman", "Mac Roman"),
}
_UNLIKELY = frozenset("ÐÝÞðýþƒ")
"""Of Icelandic, in the places where the Turkish code page has its own letters, and far more people; and of no name."""
_PUNCTUATION = frozenset("’‘“”–—…€£©®°º«»·´\xa0")
_OPENING = frozenset("‘“«")
_BETWEEN_LETTERS = frozenset("’´·")
_PAIRED = frozenset("ñÑçÇ")
"""Letters with another accented one beside them, as in Núñez and Conceição; so are doubled ones, as in Määttä."""
_EITHER = re.compile(rb"[A-Z]\xd5[A-Z]")
"""What may be SIMÕES in the one and O’BRIEN in the other."""
_BROKEN = re.compile("[\udc80-\udcff]")
_INTACT = re.compile("[^\x00-\x7f\udc80-\udcff]")


class Encoding(NamedTuple):
    """How to decode a file. ``is_guessed``: nothing in the file states it."""

    codec: str
    name: str
    is_guessed: bool = False

    @property
    def is_lenient(self) -> bool:
        """Whether broken characters are read as lone surrogates, so that they are errors of their rows."""
        return not self.codec.startswith(("utf-16", "utf-32"))

    @property
    def code(self) -> str:
        """The name as requests write it."""
        return self.name.lower().replace(" ", "-")


def state_encoding(code: str) -> Encoding:
    """The encoding that a request states."""
    return Encoding(*_STATED[code])


def find_encoding(path: Path) -> Encoding:
    """The encoding of a file, which is read whole where nothing states it."""
    with path.open("rb") as file:
        start = file.read(SAMPLE_BYTES)
    for mark, codec, name in _MARKS:
        if start.startswith(mark):
            return Encoding(codec, name)
    if codec := _find_wide(start):
        return Encoding(codec, "UTF-16", is_guessed=True)
    if _is_utf8(path):
        return Encoding("utf-8", "UTF-8")
    return _find_western(path) or Encoding("utf-8", "UTF-8")


def _find_wide(start: bytes) -> str:
    """UTF-16 without a mark: a fifth of the units or more, and no fewer than four, are ASCII, with a zero byte."""
    start = start[: len(start) // 2 * 2]
    even, odd = start[::2].count(0), start[1::2].count(0)
    enough = max(4, len(start) // 10)
    if odd >= enough and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even >= enough and odd == 0 else ""


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _find_western(path: Path) -> Encoding | None:
    intact = broken = 0
    suspects: list[bytes] = []
    text, decoder = "", codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            text = decoder.decode(chunk) or text
            found = [match.start() for match in _BROKEN.finditer(text)]
            broken += len(found)
            intact += len(_INTACT.findall(text))
            suspects += [_cut_around(text, at) for at in found[: SUSPECT_CHARACTERS - len(suspects)]]
    rest = decoder.decode(b"", final=True)
    if len(rest) > 1 and not broken:
        return None  # cut within its last character
    if rest:
        broken += len(rest)
        suspects.append(_cut_around(text[-1:] + rest, len(text[-1:])))
    if intact * 10 > broken:
        return None
    doubts = {codec: sum(_is_doubtful(one.decode(codec, "replace")) for one in suspects) for codec, _ in _WESTERN}
    codec, name = min(_WESTERN, key=lambda one: doubts[one[0]])
    doubtful = doubts[codec] + sum(_EITHER.fullmatch(one) is not None for one in suspects)
    return Encoding(codec, name, is_guessed=True) if doubtful * 10 <= len(suspects) else None


def _cut_around(text: str, at: int) -> bytes:
    """A broken byte between its neighbours; a blank stands for one that is not there, or is no single byte."""
    neighbours = (text[at - 1] if at else " ", text[at], text[at + 1 : at + 2] or " ")
    return b"".join(
        one.encode("utf-8", "surrogateescape") if one.isascii() or _BROKEN.match(one) else b" " for one in neighbours
    )


def _is_doubtful(three: str) -> bool:
    """Whether a character outside ASCII does not belong between its neighbours in a Western text."""
    before, character, after = tuple(three)
    if character in _OPENING and before.isalpha():
        return True
    if character in _PUNCTUATION:
        return before.isalpha() and after.isalpha() and character not in _BETWEEN_LETTERS
    if not character.isalpha() or character in _UNLIKELY or unicodedata.normalize("NFKC", character) != character:
        return True
    beside = [one for one in (before, after) if one > "\x7f" and one.isalpha()]
    if len(beside) == 2 or (beside and beside[0] != character and not _PAIRED & {beside[0], character}):
        return True
    if character.isupper():
        return before.islower() or (before.isupper() and after.islower())
    return before.isupper() and after.isupper()

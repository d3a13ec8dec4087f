"""Names with a slip: which known name an unknown one probably means."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from difflib import get_close_matches

SUGGESTED = 0.6
"""Enough for a hint beside a refusal."""
MEANT = 0.8
"""Enough to take the one for a slip of the other: ``test_recipient`` for ``test_recipients``."""
_SHOWN_CHARACTERS = 50
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\dA-Za-z_]+|[0-9]+")


def find_near(name: str, known: Iterable[str], similarity: float = SUGGESTED) -> str | None:
    """The known name that ``name`` resembles most, apart from case and punctuation; None where none is near."""
    by_letters = {reduce(candidate): candidate for candidate in known}
    nearest = get_close_matches(reduce(name[:_SHOWN_CHARACTERS]), by_letters, n=1, cutoff=similarity)
    return by_letters[nearest[0]] if nearest else None


def reduce(name: str) -> str:
    """A name's letters and digits without accents, so that ``Dry-Run``, ``dryRun`` and ``dry_run`` are the same; the
    name where it has none."""
    return "".join(filter(str.isalnum, _separate_marks(name).casefold())) or name


def split_words(name: str) -> list[str]:
    """The words of a name in any usual spelling, without accents: ``dryRun``, ``DRY_RUN``, ``dry-run`` → dry, run."""
    letters = "".join(one for one in _separate_marks(name) if not unicodedata.combining(one))
    return [word.casefold() for word in _WORDS.findall(letters)]


def split_joined(name: str, known: Collection[str]) -> list[str]:
    """The known words of which a name wholly consists, though they are written together: ``testmode`` → test, mode.
    Empty where it does not."""
    letters = reduce(name[:_SHOWN_CHARACTERS])
    ways: list[list[str] | None] = [[], *[None] * len(letters)]  # by the length of the beginning that they make up
    for end in range(1, len(letters) + 1):
        for start in range(end):
            before = ways[start]
            if before is not None and letters[start:end] in known:
                ways[end] = [*before, letters[start:end]]
                break  # the longest last word
    return ways[-1] or []


def _separate_marks(name: str) -> str:
    return unicodedata.normalize("NFKD", name)

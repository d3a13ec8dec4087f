"""Counts with their nouns, as messages print them."""


def count(number: float, noun: str, plural: str = "") -> str:
    """``1 row``, ``2 rows``, ``1,234 entries``."""
    return f"{number:,.0f} {noun if number == 1 else plural or f'{noun}s'}"

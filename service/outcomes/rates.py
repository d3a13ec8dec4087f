"""Rates: a part of a whole, always with both numbers and the name of the whole."""

from typing import Any


def to_rate(part: int | None, whole: int, denominator: str) -> dict[str, Any]:
    """``part`` of ``whole`` in percent, to one decimal; null where there is no whole, or the part is not known.

    ``denominator`` names the figure of the same answer that ``whole`` is.
    """
    return {
        "percent": round(100 * part / whole, 1) if whole and part is not None else None,
        "count": part,
        "of": whole,
        "denominator": denominator,
    }


def to_ratio(count: int, whole: int, denominator: str) -> dict[str, Any]:
    """How many come to each one of ``whole``, to two decimals; null where there is none."""
    return {
        "ratio": round(count / whole, 2) if whole else None,
        "count": count,
        "of": whole,
        "denominator": denominator,
    }

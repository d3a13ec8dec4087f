"""Cells that are given back: no spreadsheet runs one as a formula, and an upload reads what was there before.

Exports guard cells by the same rule (sql/functions/10_export_cell.sql), but are not read back. So a cell that already
looks guarded gets one more quote here, and ``unguard`` undoes exactly what ``guard`` did.
"""

import re

_QUOTE = "'"
_FORMULA = re.compile(r"'*[\t\n\r+\-=@＋－＝＠]")
_SIGNED_NUMBER = re.compile(r"'*[+-][0-9]+(\.[0-9]+)?")
"""Such as a phone in E.164, which cannot be a formula."""


def guard(cell: str) -> str:
    """The cell with a quote in front if it begins like a formula."""
    return _QUOTE + cell if _is_formula(cell) else cell


def unguard(cell: str) -> str:
    """The cell that ``guard`` was given."""
    return cell[1:] if cell.startswith(_QUOTE) and _is_formula(cell[1:]) else cell


def _is_formula(cell: str) -> bool:
    return _FORMULA.match(cell) is not None and _SIGNED_NUMBER.fullmatch(cell) is None

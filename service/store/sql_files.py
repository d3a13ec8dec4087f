"""Where the SQL files are: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def find_sql_folder() -> Path:
    """The folder that holds ``migrations``, ``functions`` and ``queries``."""
    inside = _PACKAGE / "sql"
    return inside if inside.is_dir() else _PACKAGE.parent / "sql"

"""Mapping files."""

from typing import Any

SMALLEST: dict[str, Any] = {
    "consumer": "hubspot",
    "target": {"kind": "hubspot", "object_type": "contacts"},
    "key": {"parameter": "loan_id", "property": "loan_id"},
    "properties": {"call_status": "status"},
}


def make_content(**changes: Any) -> dict[str, Any]:
    """The smallest mapping with changes; ``a__b`` stands for the key b in the table a, None removes one."""
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in SMALLEST.items()}
    for path, value in changes.items():
        table, _, name = path.rpartition("__")
        place = content.setdefault(table, {}) if table else content
        if value is None:
            del place[name]
        else:
            place[name] = value
    return content

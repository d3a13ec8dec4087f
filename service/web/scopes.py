"""Scopes: what a key is for.

``read`` sees figures and recipients, ``upload`` also has people called, ``feed`` follows the changes, ``admin`` erases,
replays and reads the audit log. ``admin`` lets everything else in too: who may change everything gains nothing from a
second key. The other three are apart: a dashboard's key uploads nothing, and an uploader's reads nobody.
"""

from collections.abc import Collection
from typing import Literal, TypeAlias, get_args

Scope: TypeAlias = Literal["read", "upload", "feed", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


def allows(scopes: Collection[str], needed: Scope) -> bool:
    """Whether a key with ``scopes`` may do what needs ``needed``."""
    return needed in scopes or "admin" in scopes

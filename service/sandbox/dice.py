"""Seeded randomness: the same seed and the same path give the same dice, whatever else happens and in whatever order.

Nothing in the sandbox draws from a shared stream. Each decision has a path of its own, such as (batch, row, attempt),
so concurrency, timing and faults elsewhere never change what happens to a call.
"""

import random
import uuid
from hashlib import blake2b


def dice(seed: int, *path: object) -> random.Random:
    """A generator that depends on the seed and the path alone."""
    return random.Random(_key(seed, path))  # noqa: S311 - an emulation wants repeatable, not secret, randomness


def derive_uuid(seed: int, *path: object) -> str:
    """A version 4 UUID as text that depends on the seed and the path alone."""
    digest = blake2b(_key(seed, path).encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _key(seed: int, path: tuple[object, ...]) -> str:
    return "/".join(map(str, (seed, *path)))

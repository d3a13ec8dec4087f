"""Events in groups."""

import itertools
from collections.abc import Iterator

from service.formant.events import Event


def split(events: list[Event], sizes: list[int]) -> Iterator[list[Event]]:
    """``events`` in groups of the given sizes, over and over."""
    rest = iter(events)
    for size in itertools.cycle(sizes):
        group = list(itertools.islice(rest, size))
        if not group:
            return
        yield group

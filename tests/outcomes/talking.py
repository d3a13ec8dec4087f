"""Slots of talk time."""


def slot_of(seconds: int) -> int:
    """Written from the table's comment alone: 32 steps to each doubling from 64 on, all from 8192 on together."""
    if seconds < 64:
        return seconds
    step = 1
    while step * 64 <= seconds:
        step *= 2
    return 8192 if seconds >= 8192 else seconds - seconds % step

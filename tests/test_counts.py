"""Counts as messages print them."""

from service.counts import count


def test_a_count_agrees_with_its_noun() -> None:
    assert [count(number, "row") for number in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]
    assert [count(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]

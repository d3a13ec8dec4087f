"""Which caller numbers are far below the others, and how often the test cries wolf."""

from random import Random

import pytest

from service.alarms.callers import MIN_ATTEMPTS, CallerCount, WeakCaller, find_weak_callers

NUMBERS = [f"+9180471000{number:02}" for number in range(10)]


def count(number: str, attempts: int, connects: int, *, batch_id: int = 1, agent_id: int = 7) -> CallerCount:
    return CallerCount(agent_id, batch_id, number, attempts, connects)


def test_a_number_that_connects_half_as_often_as_the_others_is_weak() -> None:
    good = [count(number, 300, 150) for number in NUMBERS[1:]]
    assert find_weak_callers([count(NUMBERS[0], 300, 75), *good]) == [WeakCaller(7, NUMBERS[0], 300, 75, 150, [1])]


@pytest.mark.parametrize(
    ("attempts", "connects"),
    [(300, 130), (300, 110), (MIN_ATTEMPTS - 1, 10)],
    ids=["a little below", "above the ratio", "too few attempts"],
)
def test_a_number_is_not_weak_for_less(attempts: int, connects: int) -> None:
    good = [count(number, 300, 150) for number in NUMBERS[1:]]
    assert find_weak_callers([count(NUMBERS[0], attempts, connects), *good]) == []


def test_a_difference_that_may_be_chance_is_not_enough() -> None:
    rare = [count(number, 300, 6) for number in NUMBERS[1:]]
    assert find_weak_callers([count(NUMBERS[0], 300, 1), *rare]) == []


def test_a_number_that_only_got_the_worse_list_is_not_blamed() -> None:
    # Summed over both batches the first number connects in 24 percent of its calls, the second in 56.
    counts = [
        count(NUMBERS[0], 900, 180, batch_id=1), count(NUMBERS[1], 100, 20, batch_id=1),
        count(NUMBERS[0], 100, 60, batch_id=2), count(NUMBERS[1], 900, 540, batch_id=2),
    ]  # fmt: skip
    assert find_weak_callers(counts) == []


def test_numbers_are_compared_within_their_agent() -> None:
    assert find_weak_callers([count(NUMBERS[0], 500, 50, agent_id=1), count(NUMBERS[1], 500, 400, agent_id=2)]) == []


def play(seed: int, shares: list[float], *, calls: int = 20_000, look: int = 200) -> tuple[int | None, set[str]]:
    """Calls from numbers with these connect rates, looked at after every ``look`` calls. Returns the number of calls at
    the first alarm, and all numbers that were ever weak."""
    dice = Random(seed)
    attempts, connects = [0] * len(shares), [0] * len(shares)
    first, weak = None, set()
    for made in range(1, calls + 1):
        place = dice.randrange(len(shares))
        attempts[place] += 1
        connects[place] += dice.random() < shares[place]
        if made % look == 0:
            rows = [count(NUMBERS[n], attempts[n], connects[n]) for n in range(len(shares))]
            found = {caller.from_phone for caller in find_weak_callers(rows)}
            first = made if found and first is None else first
            weak |= found
    return first, weak


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_equal_numbers_raise_a_false_alarm_in_less_than_one_history_in_a_hundred(share: float) -> None:
    histories = 100
    alarms = sum(bool(play(seed, [share] * 10)[1]) for seed in range(histories))
    print(f"connect rate {share:.0%}: {alarms} of {histories} histories of 20,000 calls had a false alarm")
    assert alarms <= 1


def test_one_bad_number_of_ten_is_found_once_it_has_made_a_few_hundred_calls() -> None:
    firsts = []
    for seed in range(30):
        first, weak = play(seed, [0.5] * 9 + [0.2], calls=6_000)
        assert weak == {NUMBERS[9]}
        assert first is not None
        firsts.append(first)
    print(f"found after {sorted(firsts)[15]} calls of all numbers in the middle, {max(firsts)} at most")
    assert max(firsts) <= 4_000

"""Results that say nothing: empty at every depth. The database and the service agree on which do."""

import json
from random import Random
from typing import Any

from service.formant.wanted import says_something
from service.store.database import Database

NOTHING: list[Any] = [
    None, {}, [], "", " ", "\u00a0\u2003\u3000\u200b\ufeff", {"intent": None}, {"intent": ""},
    {"a": {"b": [[], {"c": "\n"}]}},
    [[[[]]]], [None, "", {}],
]  # fmt: skip
SOMETHING: list[Any] = [
    0, False, "0", "null", "{}", {"intent": "x"}, {"intent": False}, {"intent": 0}, [[[[0]]]],
    {"a": {"b": [[], {"c": "-"}]}},
    {"a": "", "b": "x"}, ["", "x"], "\u0e01", "\u0301", "\U0001f600", {"a": ["é"]}, '"', "\\",
]  # fmt: skip
LEAVES = (None, "", " ", "\u00a0", "x", '"', "\\", 0, 1.5, True, False)


def make_value(random: Random, depth: int = 4) -> Any:
    shape = random.choice(["leaf", "leaf", "list", "object"]) if depth else "leaf"
    if shape == "list":
        return [make_value(random, depth - 1) for _ in range(random.randrange(3))]
    if shape == "object":
        return {name: make_value(random, depth - 1) for name in "ab"[: random.randrange(3)]}
    return random.choice(LEAVES[:4] if random.random() < 0.8 else LEAVES)


async def knows(database: Database, *values: Any) -> list[bool]:
    query = "SELECT array_agg(knows_results(v::jsonb) ORDER BY n) FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n)"
    known: list[bool] = await database.pool.fetchval(query, [json.dumps(value) for value in values])
    return known


async def test_results_say_nothing_if_they_are_empty_at_every_depth(database: Database) -> None:
    assert await knows(database, *NOTHING) == [says_something(value) for value in NOTHING] == [False] * len(NOTHING)
    assert (
        await knows(database, *SOMETHING) == [says_something(value) for value in SOMETHING] == [True] * len(SOMETHING)
    )
    deep = json.loads("[" * 900 + "]" * 900)
    assert (await knows(database, deep), says_something(deep)) == ([False], False)


async def test_every_character_is_blank_in_both_or_in_neither(database: Database) -> None:
    characters = [chr(n) for n in range(1, 0x20000) if not 0xD800 <= n < 0xE000]
    known = await knows(database, *characters)
    assert known == [says_something(each) for each in characters]
    assert {each for each, is_known in zip(characters, known, strict=True) if not is_known} >= {
        each for each in characters if each.isspace()
    }


async def test_any_value_says_something_in_both_or_in_neither(database: Database) -> None:
    random = Random(20261130)
    values = [make_value(random) for _ in range(5_000)]
    known = await knows(database, *values)
    assert known == [says_something(value) for value in values]
    assert min(known.count(True), known.count(False)) > 500

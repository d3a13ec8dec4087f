"""Values as goals and the rules of the targets file compare them: the database and the service agree."""

import itertools
import json
import sys
import unicodedata
from random import Random
from typing import Any

import httpx
import pytest

from service.formant.opt_outs import OptOuts
from service.formant.wanted import Wanted, fold, read_object
from service.outcomes.goals import check_rule
from service.store.database import Database
from tests.factories import AGENT_ID, decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest

SAME = [
    ["1", "1.0", "1e0", "10e-1", "1.00000", '"1"', '"1.0"', '" 1 "', '"1E0"', '"\uff11"', '"\u00a01\u2003"'],
    ["0", "-0", "0.0", "-0.0", "0e300", '"0"', '"-0.00"'],
    ["0.5", "5e-1", "0.50", '"0.5"', '"5E-1"'],
    ["100", "1e2", "100.00", '"1e+2"'],
    ["-2.5", "-25e-1", '"-2.5"'],
    ["12345678901234567890", "12345678901234567890.0", '"12345678901234567890"'],
    ["12345678901234567891"],
    ["0.1"], ["0.1000000000000000055511151231257827"],
    ["1e308"], ["1e-307"],
    ['"1e999"', '"10e998"'], ['"1e1000"'], ['"1e99999999"'], ['"1e-99999999"'],
    ['"01"'], ['"+1"'], ['"1."'], ['".1"'], ['"0x1"'], ['"1 2"'], ['"NaN"', '"nan"'], ['"Infinity"'],
    ["true", '"true"', '" TRUE "'], ["false", '"False"'],
    ['"\\u00e9"', '"e\\u0301"', '"\\u00c9"', '"E\\u0301"', '"\\u00a0\\u00e9\\u200b"'],
    ['"STRASSE"', '"stra\u00dfe"', '"Stra\u1e9eE"', '"\uff33trasse"'],
    ['"ΟΔΟΣ"', '"οδος"', '"οδοσ"', '"Οδός"'.replace("ό", "ο")],
    ['"\u0130"', '"i\u0307"'], ['"i"', '"I"'], ['"\u0131"'],
    ['"ﬁn"', '"FIN"'], ['"Å"', '"\u212b"', '"a\u030a"'], ['"हाँ"'], ['"हां"'], ['"क़"', '"\u0958"'],
    ['"ᾳ"', '"ᾼ"', '"αι"'], ['"ΐ"', '"\u03b9\u0308\u0301"'], ['"Привет"', '"ПРИВЕТ"'], ['"ꭰ"', '"Ꭰ"'],
    ['""', '" "', '"\\u3000"'], ['"a  b"'], ['"a b"', '"a\\u00a0b"', '"A\\u3000B"'],
]  # fmt: skip
NOTHING = ["null", "[]", "{}", "[1]", '{"x": 1}']


async def fold_all(database: Database, texts: list[str]) -> list[str | None]:
    query = "SELECT array_agg(fold_value(v::jsonb) ORDER BY n) FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n)"
    folded: list[str | None] = await database.pool.fetchval(query, texts)
    return folded


def read(text: str) -> Any:
    return read_object(f'{{"x": {text}}}')["x"]


async def test_values_are_the_same_by_number_and_by_letter_in_the_database_and_in_the_service(
    database: Database,
) -> None:
    assert {fold(read(text)) for text in NOTHING} == {*await fold_all(database, NOTHING)} == {None}
    keys = []
    for group in SAME:
        folded = {*await fold_all(database, group)}
        assert folded == {fold(read(text)) for text in group}, group
        assert len(folded) == 1, group
        keys.append(folded.pop())
    assert len({*keys}) == len(SAME), sorted(map(str, keys))


async def test_every_character_folds_the_same_in_the_database_and_in_the_service(database: Database) -> None:
    # Letters that only one of the two knows may differ: each has the Unicode version of its time.
    ends = ("", "\u0301", "\u0345x")
    characters = [
        chr(n)
        for n in range(1, sys.maxunicode + 1)
        if not 0xD800 <= n < 0xE000 and unicodedata.category(chr(n)) != "Cn"
    ]
    for start in range(0, len(characters), 20_000):
        words = [f"A{each}{end}" for each in characters[start : start + 20_000] for end in ends]
        folded = await fold_all(database, [json.dumps(word) for word in words])
        assert [word for word, text in zip(words, folded, strict=True) if fold(word) != text] == []


async def test_any_value_folds_the_same_in_the_database_and_in_the_service(database: Database) -> None:
    random = Random(20261130)
    letters = " \u00a0\u2003\u200b\tAÉéE\u0301ßẞΣςσİıǰΐᾳ\u0345ﬁ５0123456789.+-eE"
    values: list[Any] = ["".join(random.choices(letters, k=random.randrange(8))) for _ in range(20_000)]
    values += ["".join(random.choices("0123456789.eE-", k=random.randrange(1, 9))) for _ in range(20_000)]
    values += [random.uniform(-1, 1) * 10.0 ** random.randrange(-300, 300) for _ in range(5_000)]
    values += [random.randrange(-(10**30), 10**30) for _ in range(1_000)]
    texts = [json.dumps(value) for value in values]
    assert await fold_all(database, texts) == [fold(read(text)) for text in texts] == [*map(fold, values)]


MATCHES = [
    ([1], "1.0", True), ([0.5], "5e-1", True), ([100.0], "100", True), (["5"], "5.0", True), ([5.0], '"5"', True),
    ([5], '"05"', False), ([True], "1", False), ([1], "true", False), (["null"], "null", False), ([""], "null", False),
    (["straße"], '"STRASSE"', True), (["x"], '["y", "X\\u00a0"]', True), (["x"], '[["x"]]', False),
    (['{"x": 1}'], '{"x": 1}', False), ([1e308], "1" + "0" * 308, True), (["1e400"], "1e400", True),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "said", "is_met"), MATCHES)
async def test_a_goal_is_met_and_an_opt_out_is_found_by_the_same_values(
    service: httpx.AsyncClient, database: Database, wanted: list[Any], said: str, is_met: bool
) -> None:
    answer = await service.put(f"/v1/agents/{AGENT_ID}/goal", json={"results": {"a": wanted}})
    assert (answer.status_code == 200) is (wanted != [""])
    await store_batch(database.url, 1)
    body = json.dumps(make_payload(results={"a": "@"})).replace('"@"', said)
    (event,) = decode(json.loads(body)) if "e400" not in said else decode(make_payload(results={"a": "1e400"}))
    await ingest(database, event)
    assert (OptOuts({AGENT_ID: {"a": wanted}}).find(event) is not None) is is_met
    if answer.status_code == 200:
        shown = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
        assert shown["goal"]["met"] == is_met


def test_values_that_match_the_same_are_stored_once_as_they_were_first_written() -> None:
    values: list[Wanted] = [1, "1.0", 1.0, "STRASSE", "straße", True, "true", 0.5, "é", "e\u0301"]
    for order in itertools.islice(itertools.permutations(values), 0, 5000, 97):
        kept = check_rule({"a": list(order)})["a"]
        assert [fold(value) for value in kept] == [*dict.fromkeys(map(fold, order))]
        assert kept == [next(value for value in order if fold(value) == fold(each)) for each in kept]

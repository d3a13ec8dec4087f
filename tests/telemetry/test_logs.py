"""Logs: no body, no phone number and no key gets out, whichever way it is logged."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import structlog

from service.telemetry.logs import FIELDS, LineLimit

PERSON = "+919876543210"


def run(script: str, level: str = "info") -> list[dict[str, Any]]:
    """The log lines of a program; that nothing of the person is in its output holds for all of them."""
    head = f"""
import asyncio, gc, logging, structlog
from service.telemetry.logs import configure_logs
configure_logs({level!r})
logger = structlog.get_logger()
PERSON = {PERSON!r}
"""
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert PERSON not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_one_json_object_on_standard_error_with_its_time_and_level() -> None:
    (line,) = run('logger.warning("batch_uploaded", batch_id=456, recipients=10)')
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "batch_uploaded", "level": "warning", "batch_id": 456, "recipients": 10}


def test_fields_that_are_not_on_the_list_are_dropped() -> None:
    (line,) = run(
        'logger.info("seen", phone=PERSON, body=PERSON.encode(), parameters={"p": PERSON}, key=PERSON, agent_id=1)'
    )
    assert line.keys() == {"event", "level", "timestamp", "agent_id"}


def test_an_exception_is_reported_by_its_class_and_place_only() -> None:
    lines = run("""
class RefusedError(Exception):
    sqlstate = "22P05"
def choke(value):
    raise RefusedError(f"cannot use {value}")
for way in (lambda error: logger.error("failed", exc_info=True),
            lambda error: logger.error("failed", exc_info=error),
            lambda error: logger.exception("failed")):
    try:
        choke(PERSON)
    except RefusedError as error:
        way(error)
""")
    assert [(line["event"], line["error"], line["sqlstate"]) for line in lines] == [
        ("failed", "RefusedError", "22P05")
    ] * 3
    assert {line["error_at"] for line in lines} == {"__main__:11"}
    assert {name for line in lines for name in line} == {"event", "level", "timestamp", "error", "sqlstate", "error_at"}


def test_what_libraries_log_is_reduced_to_where_it_came_from() -> None:
    lines = run("""
logging.getLogger("asyncpg").warning("cannot insert %s", PERSON)
logging.getLogger("httpx").error(f"POST {PERSON}")
logging.getLogger("httpx").info(f"POST {PERSON}")
try:
    raise ValueError(PERSON)
except ValueError:
    logging.getLogger("uvicorn.error").exception("failed with " + PERSON)
""")
    report = [(line["event"], line["name"], line["level"], line.get("error")) for line in lines]
    assert report == [
        ("library_warning", "asyncpg", "warning", None),
        ("library_warning", "httpx", "error", None),
        ("library_warning", "uvicorn.error", "error", "ValueError"),
    ]


def test_libraries_stay_quiet_below_a_warning_even_when_our_own_logs_are_at_debug() -> None:
    assert run('logging.getLogger("httpx").info(PERSON); logging.getLogger("asyncio").debug(PERSON)', "debug") == []


def test_a_library_with_levels_of_its_own_is_no_trouble() -> None:
    lines = run("for level in (31, 35, 45, 60): logging.getLogger('odd').log(level, PERSON)")
    assert [line["level"] for line in lines] == ["warning", "warning", "error", "error"]


def test_a_failure_that_nobody_waited_for_is_reported_without_its_message() -> None:
    (line,) = run("""
async def fail():
    raise ValueError(PERSON)
async def main():
    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
asyncio.run(main())
""")
    assert (line["event"], line["name"], line["error"]) == ("library_warning", "asyncio", "ValueError")


def test_levels_below_the_configured_one_are_not_written() -> None:
    lines = run('logger.debug("a"); logger.info("b"); logger.warning("c"); logger.error("d")', "warning")
    assert [line["event"] for line in lines] == ["c", "d"]


def test_an_id_from_outside_that_could_be_a_phone_is_withheld() -> None:
    lines = run('for given in (PERSON, PERSON[1:], 5, "evt-77"): logger.info("seen", event_id=given, request_id=given)')
    report = [(line["event_id"], line["request_id"]) for line in lines]
    assert report == [("(withheld)", "(withheld)")] * 3 + [("evt-77", "evt-77")]


def test_a_chosen_name_is_withheld_if_it_contains_a_phone() -> None:
    lines = run("""
spellings = [
    PERSON, PERSON[1:], PERSON[3:], "crm-" + PERSON, "98765 43210", "98-76-54-32-10", "(98765)43210", "९८७६५४३२१०",
]
for name in ("actor", "consumer", "database", "kind", "name", "nearest", "reason", "setting", "state", "target"):
    for given in spellings:
        logger.info("seen", **{name: given})
    logger.info("seen", **{name: "crm-2025.11"})
""")
    report = [next(iter(line.keys() - {"event", "level", "timestamp"})) for line in lines]
    assert [line[name] for line, name in zip(lines, report, strict=True)] == (["(withheld)"] * 8 + ["crm-2025.11"]) * 10


def test_nothing_but_numbers_and_texts_stands_in_a_line() -> None:
    (line,) = run("""
class Row(dict):
    pass
logger.info("seen", reason={"phone": PERSON}, name=[PERSON], state=PERSON.encode(), kind=ValueError(PERSON),
    route=Row(phone=PERSON), count=7, seconds=0.5, target=None, failed=True)
""")
    assert {name for name, value in line.items() if value == "(withheld)"} == {
        "reason",
        "name",
        "state",
        "kind",
        "route",
    }
    assert (line["count"], line["seconds"], line["target"], line["failed"]) == (7, 0.5, None, True)


def test_an_event_that_is_no_word_is_withheld() -> None:
    lines = run('for event in (f"call to {PERSON}", PERSON, "Seen", ""): logger.info(event)')
    assert [line["event"] for line in lines] == ["(withheld)"] * 4


MADE_OF_WORDS = {"failure", "event", "self._event", "f\"event_{row['disposition']}\""}
SPREAD = {"by", "failure", "named", "extra"}


def test_every_line_in_the_code_is_a_static_word_with_fields_of_the_list() -> None:
    calls = [
        (f"{path}:{node.lineno}", node)
        for path in sorted((Path(__file__).parents[2] / "service").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")
    ]
    assert len(calls) > 50
    for place, call in calls:
        *level, event = call.args
        assert [ast.unparse(one) for one in level] in ([], ["level"]), f"{place}: fields are named"
        is_word = isinstance(event, ast.Constant) and re.fullmatch("[a-z][a-z0-9_]*", str(event.value)) is not None
        assert is_word or ast.unparse(event) in MADE_OF_WORDS, place
        for field in call.keywords:
            if field.arg is None:
                assert ast.unparse(field.value) in SPREAD, place
            else:
                assert field.arg in FIELDS | {"exc_info"}, f"{place}: {field.arg} would be dropped"


def test_every_step_in_the_background_names_its_failure_by_a_static_word() -> None:
    failures = [
        (f"{path}:{node.lineno}", node.args[-1])
        for path in sorted((Path(__file__).parents[2] / "service").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and "every" in [ast.unparse(node.func), *map(ast.unparse, node.args[:1])]
        if len(node.args) > 2
    ]
    assert len(failures) > 10
    for place, failure in failures:
        assert isinstance(failure, ast.Constant), place
        assert re.fullmatch("[a-z][a-z0-9_]*", str(failure.value)), place


def test_a_line_has_the_request_that_its_task_works_for_unless_it_names_one() -> None:
    lines = run("""
from service.telemetry.context import set_request_id
async def work():
    logger.info("deep_down")
async def main():
    logger.info("before")
    set_request_id("request-1")
    await asyncio.create_task(work())
    logger.info("named", request_id="request-2")
asyncio.run(main())
""")
    assert [line.get("request_id") for line in lines] == [None, "request-1", "request-2"]


def test_a_flood_of_lines_is_cut_to_a_few_for_each_reason_and_the_rest_counted() -> None:
    ends = []
    limit = LineLimit("flooded", lines=2, call_later=lambda seconds, end, reason: ends.append((seconds, end, reason)))
    with structlog.testing.capture_logs() as logs:
        assert [limit.admit("wrong") for _ in range(5)] == [1, 1, 0, 0, 0]
        assert limit.admit("other", 5) == 2
        assert limit.admit("other", 5) == 0
        assert limit.admit("third") == 1
        assert [(seconds, reason) for seconds, _, reason in ends] == [(1.0, "wrong"), (1.0, "other"), (1.0, "third")]
        for _, end, reason in ends:
            end(reason)
        assert limit.admit("wrong") == 1, "the next second"
    assert [(log["event"], log["reason"], log["suppressed"]) for log in logs] == [
        ("flooded", "wrong", 3), ("flooded", "other", 8),
    ]  # fmt: skip


def test_repeated_lines_of_a_library_are_suppressed() -> None:
    lines = run("""
def say(at):
    record = logging.makeLogRecord({"name": "chatty", "levelno": 30, "msg": PERSON, "created": at})
    logging.getLogger().handlers[0].handle(record)
for _ in range(50):
    say(100.0)
logging.getLogger("other").warning(PERSON)
say(101.0)
say(101.5)
""")
    assert [line["name"] for line in lines] == ["chatty"] * 10 + ["other", "chatty", "chatty"]
    assert [line.get("suppressed") for line in lines[-2:]] == [40, None]

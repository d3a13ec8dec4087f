"""Which answers to an upload are certain refusals: all statuses, in all shapes. A wrong yes dials everybody twice."""

import pytest

from service.formant.refusals import is_certain_refusal

TYPES = (
    "invalid_request", "authentication_error", "permission_error", "not_found", "duplicate_request", "internal_error",
    "rate_limit_exceeded", "concurrent_call_limit_exceeded", "some_word_of_next_year", "",
)  # fmt: skip
OTHER_SHAPES = (
    b"", b"<html><h1>Not here</h1></html>", b"null", b"[]", b"{}", b'{"error": "not_found"}', b'{"error": null}',
    b'{"error": {"message": "no"}}', b'{"error": {"type": 404}}', b'{"message": "Forbidden", "type": "not_found"}',
    b'{"error": {"type": "not_found"', b'{"error": {"type": "\xff"}}', b"[" * 100_000,
)  # fmt: skip
REFUSES = {"invalid_request", "authentication_error", "permission_error", "not_found"}
BEFOREHAND = {400, 401, 403, 404, 413}
TAKEN = {"duplicate_request", "internal_error"}
LIMITS = {"rate_limit_exceeded", "concurrent_call_limit_exceeded"}


def shape(problem_type: str) -> bytes:
    return b'{"error": {"message": "m", "type": "%s"}}' % problem_type.encode()


@pytest.mark.parametrize("status", range(100, 600))
def test_an_answer_is_a_refusal_only_where_nothing_else_explains_it(status: int) -> None:
    for problem_type in TYPES:
        if status in BEFOREHAND:
            expected = problem_type not in TAKEN
        elif status == 429:
            expected = problem_type in LIMITS
        elif status in {408, 409, 425, 499}:
            expected = False
        else:
            expected = 400 <= status < 500 and problem_type in REFUSES
        assert is_certain_refusal(status, shape(problem_type)) == expected, problem_type
    for body in OTHER_SHAPES:
        assert is_certain_refusal(status, body) == (status in BEFOREHAND), body[:40]


@pytest.mark.parametrize("status", [200, 202, 301, 302, 304, 307, 408, 409, 425, 499, 500, 502, 503, 504, 520, 524])
def test_some_answers_never_are(status: int) -> None:
    assert not any(is_certain_refusal(status, body) for body in (*map(shape, TYPES), *OTHER_SHAPES))

"""The messages of refusals."""

import pytest

from service.crm.exchange import read_message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "no scope"}', ": no scope"),
        (b'{"error": {"message": "no such loan", "type": "x"}}', ": no such loan"),
        (b'{"error": "no such loan"}', ": no such loan"),
        (b"<html>", ""), (b"", ""), (b"[1]", ""), (b'{"message": 1}', ""), (b"\\xff", ""), (b'{"a":' * 9999, ""),
    ],
)  # fmt: skip
def test_the_message_of_a_refusal_is_found_in_the_usual_shapes(body: bytes, message: str) -> None:
    assert read_message(body) == message

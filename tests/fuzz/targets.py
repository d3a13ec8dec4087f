"""The fuzz targets: functions that take any bytes and fail if a promise does not hold. Imported under instrumentation.

Each target has seeds: valid inputs from the tests' own factories, from which the fuzzer starts.
"""

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.types import Message

import service
from service.errors import ApiError, InvalidRequestError, NotFoundError
from service.feed.http import Acknowledgement
from service.formant.conversations import decode_conversation, to_event
from service.formant.events import STATUSES
from service.formant.signature import SignatureVerifier, Signed, read_signatures, sign
from service.privacy.http import Person
from service.sandbox import sample_contacts
from service.spelling import reduce
from service.uploads.report import PHONE_COLUMN, ContactsOptions
from service.uploads.states_http import Resolution
from service.web.parameters import Parameter, read_json
from tests.factories import RECEIVED, encode, make_payload
from tests.formant.decoding import check as check_event
from tests.uploads.checked import check as check_contacts

SECRET = "fuzzed"
BODY = b"a body"
VERIFIER = SignatureVerifier(["retired", SECRET])
OPTIONS = [
    ContactsOptions(ref_column="outcome_ref", duplicates=duplicates, region=region)
    for duplicates in ("reject", "first", "all")
    for region in ("", "IN")
]  # fmt: skip


class Target(NamedTuple):
    """A function and its seeds."""

    check: Callable[[bytes], object]
    seeds: list[bytes]


def check_signature(header: bytes) -> None:
    """Only the digest from ``sign`` is accepted, and it parses back."""
    digest = bytes.fromhex(sign(BODY, SECRET)[7:])
    is_right = digest in read_signatures(header)
    assert not is_right or digest.hex().encode() in header.lower()
    assert VERIFIER.find_secret(BODY, header) == (Signed(1, digest) if is_right else None)
    signature = sign(header, SECRET)
    assert VERIFIER.find_secret(header, signature.encode()) == Signed(1, bytes.fromhex(signature[7:]))


def check_file(file: bytes) -> None:
    """A file is read, or refused with a reason; its errors name line and column and quote no phone."""
    options = OPTIONS[len(file) % len(OPTIONS)]
    try:
        report, contacts, _ = check_contacts(file, options)
    except InvalidRequestError as error:
        assert error.message.startswith("file: ")  # noqa: PT017 the message is part of the promise
        return
    assert report.recipients == len(contacts) == report.part_counts[0]
    assert report.recipients or report.error_count
    for finding in report.errors:
        assert finding.line > 1
        is_phone = finding.column is not None and reduce(finding.column) == reduce(PHONE_COLUMN)
        assert is_phone or finding.column in (None, *report.columns)
        assert finding.problem
    for contact in contacts:
        assert contact.phone.startswith("+")
        msgspec.json.decode(contact.parameters, type=dict[str, str])


def check_json(body: bytes) -> None:
    """A small body is read, or refused with an error for the caller."""
    for shape in (Person, Acknowledgement, Resolution):
        with contextlib.suppress(ApiError):
            asyncio.run(read_json(_make_request(body), shape, "{}"))


def check_conversation(body: bytes) -> None:
    """A conversation is refused, or decoded to an event that can be stored."""
    try:
        found = decode_conversation(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, ApiError):
        return
    for may_retry in (True, False):
        event = to_event(found, received_at=RECEIVED, may_retry=may_retry)
        assert event is None or event.status in STATUSES


def check_parameters(text: bytes) -> None:
    """Every declared parameter accepts a text, or refuses it by name."""
    for parameter in _PARAMETERS:
        with contextlib.suppress(NotFoundError):
            try:
                parameter.parse(text.decode("utf-8", "replace"))
            except InvalidRequestError as error:
                assert error.message.startswith(f"{parameter.name}: ")  # noqa: PT017 as above


def _list_parameters() -> Iterator[Parameter[Any, Any]]:
    for module in pkgutil.walk_packages(service.__path__, "service."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, Parameter) and type(value)._parse is not Parameter._parse:
                    yield value


def _make_request(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}, receive)


_PARAMETERS = list({id(each): each for each in _list_parameters()}.values())
_EVENTS = [
    encode(make_payload(status=status, final=final, attempt=attempt))
    for status in STATUSES for final in (True, False) for attempt in (None, 1)
]  # fmt: skip
_CONVERSATION = {
    "agent_id": 123, "contact_number": "+917000000001", "conversation_id": "c_1", "duration_seconds": 62,
    "start_timestamp": 1_773_657_000_000, "end_timestamp": 1_773_657_062_000, "status": "completed",
    "results": {"intent": "promise_to_pay"}, "transcript": [{"role": "agent", "message": "Hello"}],
}  # fmt: skip
TARGETS = {
    "events": Target(check_event, _EVENTS),
    "signature": Target(check_signature, [sign(BODY, SECRET).encode(), sign(b"", SECRET).encode(), b"sha256="]),
    "files": Target(
        check_file,
        [sample_contacts(3, seed=1).encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16")]
        + [b'customer_phone;name\r\n9876543210;"a;b"\r\n', b"customer_phone\n+919876543210\n+919876543210\n"],
    ),
    "json": Target(
        check_json, [b'{"phone": "+919876543210", "dry_run": true}', b'{"position": 3}', b'{"batch_id": 1}']
    ),
    "conversations": Target(check_conversation, [encode({"data": _CONVERSATION}), encode(_CONVERSATION)]),
    "parameters": Target(
        check_parameters,
        [
            b"20",
            b"true",
            b"2026-03-16",
            b"2026-03-16T10:30:00+05:30",
            b"Asia/Kolkata",
            b"intent:yes",
            b"results.intent",
        ],
    ),
}

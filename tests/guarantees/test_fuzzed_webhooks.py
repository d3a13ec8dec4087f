"""Whatever a webhook looks like on the wire: a correctly signed and framed body is stored exactly once, byte for byte,
and answered 204; one without a correct signature is answered 401 and leaves nothing. No bytes cause a 500 or a hang."""

import codecs
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from service.formant.signature import SIGNATURE_HEADER, sign
from tests.conftest import SECRET
from tests.factories import encode, make_payload
from tests.web.fuzzing import Fuzzed, open_fuzzed

PATH = b"/webhooks/formant"
EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_numbers = itertools.count(1)


@pytest.fixture
def fuzzed(database_url: str) -> Iterator[Fuzzed]:
    with open_fuzzed(database_url) as opened:
        yield opened


def make_body(number: int) -> bytes:
    """A valid event, different for each number."""
    return encode(make_payload(recipient=number % 5 + 1, attempt=number, event_id=f"fuzzed-{number}"))


def make_request(
    body: bytes,
    *headers: tuple[bytes, bytes],
    target: bytes = PATH,
    version: bytes = b"1.1",
    framed: bytes | None = None,
) -> bytes:
    """A webhook. ``framed`` is the body as sent, if ``headers`` contain its framing."""
    complete = headers if framed is not None else (*headers, (b"Content-Length", b"%d" % len(body)))
    lines = [b"POST " + target + b" HTTP/" + version, b"Host: test", b"Connection: close"]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in complete), b"", framed or body])


def signature_of(body: bytes) -> tuple[bytes, bytes]:
    return SIGNATURE_HEADER.encode(), sign(body, SECRET).encode()


# Bodies: JSON of any kind, in wrong encodings, truncated, with a byte order mark, or within other bytes.
_texts = st.text(max_size=6) | st.sampled_from(["\x00", "\ud800", "\udfff\ud800", "\ufeff", "😀", "\u202e", "1e5"])
_numbers_in_text = st.sampled_from(
    ["1e400", "-0", "9" * 500, "0." + "1" * 400, "1E+2", "NaN", "-Infinity", "00", "0x1"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_encodings = st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp037"])
_marks = st.sampled_from([b"", b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF8 * 2, b" \n\t", b"\x00"])
_wrappings = st.sampled_from(
    [("", "")] * 6 + [("[", "]"), ('{"data":' * 600, "}" * 600), ("[" * 3000, ""), ("", "garbage")]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An event of the contract with any values, duplicate keys and huge numbers; then its bytes are damaged."""
    payload: dict[str, Any] = make_payload(recipient=1, event_id=f"drawn-{draw(st.integers(1, 9))}")
    payload["data"]["call"]["trace_id"] = "trace"  # the factory numbers it
    places: list[dict[str, Any]] = [payload, payload["data"], payload["data"]["call"], payload["data"]["retry"]]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places))
        place[draw(st.sampled_from([*place, "new"]))] = draw(_values)
    text = json.dumps(payload, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = text.replace("62", draw(_numbers_in_text))
    if draw(st.booleans()):
        text = text.replace(
            '"event_type"', draw(st.sampled_from(['"event_id"', '"event_id": null, "event_type"', '"data"']))
        )
    before, after = draw(_wrappings)
    content = draw(_marks) + (before + text + after).encode(
        draw(_encodings), "surrogatepass" if text.isascii() else "replace"
    )
    cut = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "within", "twice"])):
        case "cut":
            return content[:cut]
        case "within":
            return content[:cut] + draw(st.binary(max_size=8)) + content[cut:]
        case "twice":
            return content + content
    return content


@EXAMPLES
@given(body=bodies() | st.binary(max_size=300))
@example(body=b"")
@example(body=b"\x00")
@example(body=b"{}" + b" " * 100_000)
@example(body=b'"' + b"\\ud800" * 2000 + b'"')
@example(body=b"[" * 200_000)
def test_any_signed_body_is_stored_once_and_byte_for_byte(fuzzed: Fuzzed, body: bytes) -> None:
    answer = fuzzed.exchange(make_request(body, signature_of(body)))
    assert (answer.status, answer.body) == (204, b"")
    assert fuzzed.count_kept(body) == 1
    assert fuzzed.exchange(make_request(body, signature_of(body))).status == 204  # sent again, still stored once
    assert fuzzed.count_kept(body) == 1


# Signatures: close to the right one, or anything that a header may contain.
def _swap(signature: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(7, len(signature))
    return (
        signature[:place]
        + dice.choice(b"0123456789abcdef".replace(signature[place : place + 1], b"")).to_bytes()
        + (signature[place + 1 :])
    )


NEAR: dict[str, Callable[[bytes, random.Random], list[bytes]]] = {
    "right": lambda right, dice: [right],
    "right, with blanks around": lambda right, dice: [b" \t" + right + b"\t "],
    "none": lambda right, dice: [],
    "empty": lambda right, dice: [b""],
    "upper-case hex": lambda right, dice: [b"sha256=" + right[7:].upper()],
    "upper-case prefix": lambda right, dice: [b"SHA256=" + right[7:]],
    "no prefix": lambda right, dice: [right[7:]],
    "another prefix": lambda right, dice: [dice.choice([b"sha1=", b"sha512=", b"v1=", b"sha256:"]) + right[7:]],
    "a blank within": lambda right, dice: [b"sha256= " + right[7:]],
    "cut": lambda right, dice: [right[: dice.randrange(len(right))]],
    "longer": lambda right, dice: [right + bytes(dice.choices(b"0123456789abcdef", k=dice.randrange(1, 70)))],
    "a digit swapped": lambda right, dice: [_swap(right, dice)],
    "twice in one": lambda right, dice: [right + b"," + right],
    "with another in one": lambda right, dice: [_swap(right, dice) + b", " + right],
    "not ASCII": lambda right, dice: [right[:-1] + bytes([dice.randrange(128, 256)])],
    "digits that are not ASCII": lambda right, dice: [b"sha256=" + "٣".encode() * 32],
    "quoted": lambda right, dice: [b'"' + right + b'"'],
    "a wrong one last": lambda right, dice: [right, _swap(right, dice)],
    "a wrong one first": lambda right, dice: [_swap(right, dice), right],
    "two wrong ones": lambda right, dice: [_swap(right, dice), _swap(right, dice)],
    "of another body": lambda right, dice: [sign(b"other", SECRET).encode()],
    "of another secret": lambda right, dice: [b"sha256=" + hashlib.sha256(right).hexdigest().encode()],
    "very long": lambda right, dice: [right * 50],
}  # fmt: skip
RIGHT = {
    "right", "right, with blanks around", "a wrong one last", "a wrong one first", "upper-case hex",
    "upper-case prefix", "no prefix", "a blank within", "twice in one", "with another in one",
}  # fmt: skip
_header_values = st.binary(max_size=100).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127))


@EXAMPLES
@given(kind=st.sampled_from(sorted(NEAR)), seed=st.integers(0, 2**32))
def test_only_the_right_signature_is_accepted(fuzzed: Fuzzed, kind: str, seed: int) -> None:
    body, before = make_body(next(_numbers)), fuzzed.count_all()
    values = NEAR[kind](sign(body, SECRET).encode(), random.Random(seed))
    answer = fuzzed.exchange(make_request(body, *((SIGNATURE_HEADER.encode(), value) for value in values)))
    assert answer.status == (204 if kind in RIGHT else 401), kind
    assert fuzzed.count_kept(body) == (1 if kind in RIGHT else 0)
    assert fuzzed.count_all() == before + (1 if kind in RIGHT else 0)


@EXAMPLES
@given(values=st.lists(_header_values, max_size=3))
def test_no_other_header_replaces_the_signature(fuzzed: Fuzzed, values: list[bytes]) -> None:
    body, before = make_body(next(_numbers)), fuzzed.count_all()
    assume(sign(body, SECRET).encode() not in values)
    answer = fuzzed.exchange(make_request(body, *((SIGNATURE_HEADER.encode(), value) for value in values)))
    assert answer.status == 401
    assert b'{"error":' in answer.body
    assert fuzzed.count_all() == before


# Headers and framing: everything that HTTP allows around a body.
_names = st.text("abcdefXYZ0123456789-_.!#$%&'*+^`|~", min_size=1, max_size=30).map(lambda text: b"X-" + text.encode())
_known = st.sampled_from([
    (b"Content-Type", b"text/plain; charset=utf-16"), (b"Content-Type", b"multipart/form-data"), (b"Content-Type", b""),
    (b"Content-Encoding", b"gzip"), (b"Expect", b"100-continue"), (b"Upgrade", b"h2c"), (b"Accept", b"\xff"),
    (b"Content-Encoding", b"br"), (b"Content-Encoding", b"identity"), (b"Expect", b"200-ok, 100-Continue"),
    (b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"websocket"), (b"HTTP2-Settings", b"AAEAAEAA"),
    (b"Accept-Encoding", b"br;q=0"), (b"TE", b"trailers"), (b"Trailer", b"X-Later"), (b"Cookie", b"=;=;;"),
    (b"Authorization", b"Bearer nonsense"), (b"Authorization", b"\xff"), (b"If-None-Match", b"*"), (b"Range", b"x=5-1"),
    (b"X-Forwarded-For", b"not an address"), (b"X-Forwarded-Proto", b"gopher"), (b"Forwarded", b"for=;;"),
    (b"X-FormantAI-Event-Id", b"x" * 3000), (b"X-FormantAI-Event-Id", b"\xff\xfe"), (b"X-FormantAI-Event-Id", b""),
    (b"X-FormantAI-Event-Type", b"call.nothing"), (b"X-FormantAI-Timestamp", b"-99999999999999999999"),
    (b"X-HTTP-Method-Override", b"DELETE"), (b"Origin", b"null"), (b"User-Agent", b""), (b"Date", b"yesterday"),
    (b"X-Request-Id", b"x" * 3000), (b"X-Request-Id", b"{}\"'<>"), (b"Traceparent", b"00-zz-zz-zz"),
])  # fmt: skip
_headers = st.lists(st.tuples(_names, _header_values) | _known, max_size=30)


def _cut(body: bytes, dice: random.Random) -> list[bytes]:
    """Cuts a body into pieces of any size."""
    pieces = []
    while body:
        size = dice.choice([1, 1, 2, 15, 16, 17, 255, 256, 4096])
        pieces.append(body[:size])
        body = body[size:]
    return pieces


def _chunk(body: bytes, dice: random.Random) -> bytes:
    """``Transfer-Encoding: chunked``: sizes in any case, with zeros before them, extensions and trailers."""
    form = dice.choice([b"%x", b"%X", b"%04x", b"%016X"])
    extension = dice.choice([b"", b"", b";name", b";name=value", b';name="quoted"'])
    trailer = dice.choice([b"", b"", b"X-Later: yes\r\n", b"X-FormantAI-Signature: none\r\n"])
    chunks = [form % len(piece) + extension + b"\r\n" + piece + b"\r\n" for piece in _cut(body, dice)]
    return b"".join(chunks) + dice.choice([b"0", b"000"]) + b"\r\n" + trailer + b"\r\n"


FRAMINGS: dict[str, Callable[[bytes, random.Random], tuple[tuple[bytes, bytes], bytes]]] = {
    "length": lambda body, dice: ((b"Content-Length", b"%d" % len(body)), body),
    "length with zeros": lambda body, dice: ((b"Content-Length", b"%08d" % len(body)), body),
    "length with blanks": lambda body, dice: ((b"content-length", b"  %d  " % len(body)), body),
    "chunked": lambda body, dice: ((b"Transfer-Encoding", b"chunked"), _chunk(body, dice)),
    "chunked, in another case": lambda body, dice: ((b"transfer-encoding", b"Chunked"), _chunk(body, dice)),
}  # fmt: skip


@EXAMPLES
@given(
    headers=_headers,
    framing=st.sampled_from(sorted(FRAMINGS)),
    target=st.sampled_from(
        [PATH, PATH, PATH + b"?a=%ff&&=", PATH + b"/default", b"http://elsewhere" + PATH, b"/" + PATH, PATH + b"//"]
    ),
    is_empty=st.sampled_from([False, False, False, True]),
    seed=st.integers(0, 2**32),
)
def test_a_signed_event_is_stored_with_any_headers_and_framing(
    fuzzed: Fuzzed, headers: list[tuple[bytes, bytes]], framing: str, target: bytes, is_empty: bool, seed: int
) -> None:
    dice = random.Random(seed)
    body = b"" if is_empty else make_body(next(_numbers))
    framing_header, framed = FRAMINGS[framing](body, dice)
    carried = [*headers, signature_of(body), framing_header]
    dice.shuffle(carried)
    whole = make_request(body, *carried, target=target, framed=framed)
    cuts = sorted(dice.randrange(len(whole)) for _ in range(dice.randrange(6)))
    answer = fuzzed.exchange(*(whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])))
    assert answer.status == 204, answer
    assert fuzzed.count_kept(body) == 1


@EXAMPLES
@given(
    damage=st.binary(min_size=1, max_size=12), place=st.floats(0, 1), width=st.integers(0, 30), chunked=st.booleans()
)
@example(damage=b"Content-Length: 5\r\n", place=0.2, width=0, chunked=False)
@example(damage=b"Transfer-Encoding: gzip, chunked\r\n", place=0.2, width=0, chunked=False)
def test_a_damaged_request_is_answered_or_disconnected_and_never_half_stored(
    fuzzed: Fuzzed, damage: bytes, place: float, width: int, chunked: bool
) -> None:
    body = make_body(next(_numbers))
    framing_header, framed = FRAMINGS["chunked" if chunked else "length"](body, random.Random(1))
    whole = make_request(body, signature_of(body), framing_header, framed=framed)
    at = round(place * len(whole))
    status = fuzzed.send_and_close(whole[:at] + damage + whole[at + width :])
    assert status is None or status < 500, status
    if status is not None:
        assert fuzzed.count_kept(body) == (1 if status == 204 else 0), status

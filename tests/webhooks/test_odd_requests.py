"""Webhooks in every odd form that HTTP allows: the provider sends nothing again after a 4xx, so whatever has one
meaning and a right signature is stored, and with a wrong signature it is still a 401."""

import asyncio
import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable
from typing import NamedTuple

import httpx
import pytest

from service.formant.signature import SIGNATURE_HEADER, sign
from service.store.database import Database
from service.webhooks.encodings import ContentDecoder
from tests.conftest import SECRET, StartService
from tests.exposition import read_metric
from tests.factories import encode, make_payload
from tests.server.raw_http import RawAnswer, connect_raw

PATH = "/webhooks/formant"


class Form(NamedTuple):
    """How a webhook is sent. ``headers`` replace the usual ones; {signature} and {digest} stand for the right ones."""

    target: str = PATH
    version: str = "1.1"
    headers: tuple[str, ...] = ("Host: test", SIGNATURE_HEADER + ": {signature}")
    framing: str = "length"


def with_headers(*headers: str) -> Form:
    """The usual ones, and more."""
    return Form(headers=("Host: test", SIGNATURE_HEADER + ": {signature}", *headers))


def signed_as(*values: str) -> Form:
    """Signature headers with these values."""
    return Form(headers=("Host: test", *(f"{SIGNATURE_HEADER}: {value}" for value in values)))


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
WRONG = "sha256=" + "0" * 64
FORMS = {
    "the usual one": Form(),
    "in chunks": Form(framing="chunks"),
    "chunked in another case": Form(framing="CHUNKED"),
    "HTTP/1.0": Form(version="1.0"),
    "HTTP/1.0 without a host": Form(version="1.0", headers=(SIGNATURE_HEADER + ": {signature}",)),
    "HTTP/1.0 that offers h2c": with_headers(*H2C)._replace(version="1.0"),
    "HTTP/1.0 that expects to be asked": with_headers("Expect: 100-continue")._replace(version="1.0"),
    "a slash at the end": Form(PATH + "/"),
    "slashes at the end": Form(PATH + "//"),
    "two slashes at the start": Form("/" + PATH),
    "two slashes within": Form("/webhooks//formant"),
    "the default target by its name": Form(PATH + "/default"),
    "the default target and a slash": Form(PATH + "//default/"),
    "a query": Form(PATH + "?a=b&a=%ff&&="),
    "an empty query": Form(PATH + "?"),
    "a fragment": Form(PATH + "#top"),
    "a path with escapes": Form("/%77ebhooks/%66ormant"),
    "a slash as an escape": Form("/webhooks%2fformant"),
    "a whole address": Form("http://elsewhere:8080" + PATH),
    "a whole address of https, in capitals": Form("HTTPS://elsewhere" + PATH + "/?x"),
    "a whole address with a name in front": Form("http://user:word@elsewhere/" + PATH),
    "a whole address of IPv6": Form("http://[::1]:80" + PATH),
    "no type": Form(),
    "a type of another kind": with_headers("Content-Type: text/plain; charset=utf-16"),
    "a type that is none": with_headers("Content-Type: ;;;"),
    "two types": with_headers("Content-Type: application/json", "Content-Type: text/xml"),
    "an expectation": with_headers("Expect: 100-continue"),
    "an expectation in another case": with_headers("expect: 100-Continue"),
    "an expectation among others": with_headers("Expect: something, 100-continue"),
    "two expectations": with_headers("Expect: 100-continue", "Expect: something"),
    "an unknown expectation": with_headers("Expect: 200-ok"),
    "an expectation in chunks": with_headers("Expect: 100-continue")._replace(framing="chunks"),
    "an offer of h2c": with_headers(*H2C),
    "an offer of h2c in chunks": with_headers(*H2C)._replace(framing="chunks"),
    "an offer of h2c that expects to be asked": with_headers(*H2C, "Expect: 100-continue"),
    "an offer of h2c in other cases": with_headers("connection: UPGRADE", "UPGRADE: H2C"),
    "an offer of websocket": with_headers("Connection: upgrade", "Upgrade: websocket"),
    "an offer of several protocols": with_headers("Connection: upgrade", "Upgrade: h2c, TLS/1.3, IRC/6.9"),
    "an offer without its connection": with_headers("Upgrade: h2c"),
    "a connection without its offer": with_headers("Connection: upgrade"),
    "headers in capitals": Form(headers=("HOST: test", SIGNATURE_HEADER.upper() + ": {signature}")),
    "headers in small letters": Form(headers=("host: test", SIGNATURE_HEADER.lower() + ": {signature}")),
    "headers without blanks": Form(headers=("Host:test", SIGNATURE_HEADER + ":{signature}")),
    "headers with blanks and tabs": Form(headers=("Host: test", SIGNATURE_HEADER + ": \t {signature} \t ")),
    "headers with underscores": with_headers("X_FormantAI_Signature: nothing", "__: __"),
    "an empty host": Form(headers=("Host:", SIGNATURE_HEADER + ": {signature}")),
    "empty headers": with_headers("X-Nothing:", "Accept: "),
    "ninety headers": with_headers(*(f"X-More-{number}: x" for number in range(90))),
    "60 KB of headers": with_headers("Cookie: " + "x" * 60_000),
    "bytes that are no ASCII": with_headers("X-Name: \xff\xfe"),
    "another method in a header": with_headers("X-HTTP-Method-Override: DELETE"),
    "a key of the API that is none": with_headers("Authorization: Bearer nonsense"),
    "an identity encoding": with_headers("Content-Encoding: identity"),
    "an encoding that it is not in": with_headers("Content-Encoding: gzip"),
    "an encoding that nobody knows": with_headers("Content-Encoding: br"),
    "hex in capitals": signed_as("sha256={DIGEST}"),
    "a prefix in capitals": signed_as("SHA256={digest}"),
    "all in capitals": signed_as("SHA256={DIGEST}"),
    "no prefix": signed_as("{digest}"),
    "a blank behind the prefix": signed_as("sha256= {digest}"),
    "several signatures, the right one first": signed_as("{signature}," + WRONG),
    "several signatures, the right one last": signed_as(WRONG + " , {signature}"),
    "several headers, the right one first": signed_as("{signature}", WRONG),
    "several headers, the right one last": signed_as(WRONG, "sha1=0", "{signature}"),
    "a list with gaps": signed_as(",, {signature} ,"),
}
_numbers = itertools.count(1)


def make_body() -> bytes:
    return encode(make_payload(event_id=f"odd-{next(_numbers)}"))


def frame(framing: str, body: bytes) -> tuple[str, bytes]:
    """The framing's header, and the body as it is sent."""
    if framing == "length":
        return f"Content-Length: {len(body)}", body
    half = len(body) // 2
    chunks = b"%x;name=value\r\n%s\r\n%X\r\n%s\r\n" % (half, body[:half], len(body) - half, body[half:])
    coding = "chunked" if framing == "chunks" else "Chunked"
    return f"transfer-encoding: {coding}", chunks + b"000\r\nX-Trailer: x\r\n\r\n"


async def send(service: httpx.AsyncClient, form: Form, body: bytes, signature: str) -> RawAnswer:
    """The answer to one webhook; where it expects to be asked for its body, it waits until it is."""
    framing, framed = frame(form.framing, body)
    digest = signature.removeprefix("sha256=")
    names = {"{signature}": signature, "{digest}": digest, "{DIGEST}": digest.upper()}
    lines = [f"POST {form.target} HTTP/{form.version}", *form.headers, framing, "", ""]
    head = "\r\n".join(lines)
    for name, value in names.items():
        head = head.replace(name, value)
    waits = form.version == "1.1" and any("100-continue" in header.lower() for header in form.headers)
    async with connect_raw(service) as connection:
        if waits:
            await connection.send(head.encode("latin-1"))
            assert (await connection.read_answer()).status == 100
            await connection.send(framed)
        else:
            await connection.send(head.encode("latin-1") + framed)
        answer = await connection.read_answer()
        if form.version == "1.1" and b"connection: close" not in answer.head:
            await connection.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await connection.read_answer()).status == 200
        return answer


async def count_kept(database: Database, body: bytes) -> int:
    kept: int = await database.pool.fetchval("SELECT count(*) FROM event_bodies WHERE body = $1", body)
    return kept


async def count_all(database: Database) -> int:
    count: int = await database.pool.fetchval(
        "SELECT (SELECT count(*) FROM event_bodies) + (SELECT count(*) FROM quarantine)"
    )
    return count


async def test_a_right_signature_is_stored_in_any_form_that_has_one_meaning(
    service: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    for name, form in FORMS.items():
        with subtests.test(name):
            body = make_body()
            answer = await send(service, form, body, sign(body, SECRET))
            assert (answer.status, answer.body) == (204, b""), answer
            assert await count_kept(database, body) == 1


async def test_a_wrong_signature_is_a_401_in_each_of_them_and_leaves_nothing(
    service: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    for name, form in FORMS.items():
        with subtests.test(name):
            answer = await send(service, form, make_body(), sign(b"another body", SECRET))
            # Of an encoding that cannot be read, a right signature may be inside: that is to be sent again, and shown.
            is_unreadable = {"Content-Encoding: br", "Content-Encoding: gzip"} & set(form.headers)
            assert answer.status == (503 if is_unreadable else 401), answer
    assert await count_all(database) == 0


def deflate_raw(content: bytes) -> bytes:
    return zlib.compress(content, wbits=-zlib.MAX_WBITS)


def compress_in_members(content: bytes) -> bytes:
    """gzip with an empty member, one of each third, and padding."""
    third = len(content) // 3
    members = (b"", content[:third], content[third : 2 * third], content[2 * third :])
    return b"".join(map(gzip.compress, members)) + b"\0" * 600


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip in capitals": ("GZIP", gzip.compress),
    "gzip of several members": ("gzip", compress_in_members),
    "gzip of five hundred members": ("gzip", lambda content: gzip.compress(content) + gzip.compress(b"") * 499),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", deflate_raw),
    "gzip twice": ("gzip, gzip", lambda content: gzip.compress(gzip.compress(content))),
    "deflate, then gzip": ("deflate,gzip", lambda content: gzip.compress(deflate_raw(content))),
    "four codings and identity": (
        "gzip, deflate, identity, , gzip, deflate",
        lambda content: deflate_raw(compress_in_members(zlib.compress(gzip.compress(content)))),
    ),
    "an encoding that is none": ("identity,,Identity", bytes),
}  # fmt: skip


async def send_encoded(service: httpx.AsyncClient, content: bytes, encoding: str, signature: str) -> int:
    headers = {SIGNATURE_HEADER: signature, "Content-Encoding": encoding}
    return (await service.post(PATH, content=content, headers=headers)).status_code


async def test_a_compressed_body_is_understood_whichever_form_was_signed(
    service: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    for name, (encoding, compress) in ENCODINGS.items():
        for signs_content in (True, False):
            with subtests.test(name, signs_content=signs_content):
                body = make_body()
                sent = compress(body)  # once: gzip writes the time
                signed = body if signs_content else sent
                for _ in range(2):
                    assert await send_encoded(service, sent, encoding, sign(signed, SECRET)) == 204
                row = await database.pool.fetchrow("SELECT body, signature FROM event_bodies WHERE body = $1", body)
                assert row is not None
                assert row["signature"].hex() == sign(body, SECRET).removeprefix("sha256=")
    assert await count_all(database) == 2 * len(ENCODINGS)
    assert await database.pool.fetchval("SELECT count(*) FROM event_conflicts") == 0


async def test_a_compressed_body_with_a_wrong_signature_is_a_401(
    service: httpx.AsyncClient, database: Database
) -> None:
    for encoding, compress in ENCODINGS.values():
        for signature in (sign(b"other", SECRET), sign(compress(b"other"), SECRET), ""):
            assert await send_encoded(service, compress(make_body()), encoding, signature) == 401
    assert await count_all(database) == 0


async def test_only_the_size_of_the_content_bounds_a_compressed_body(
    start_service: StartService, database: Database, subtests: pytest.Subtests
) -> None:
    async with start_service(OUTCOMES_MAX_BODY_BYTES="3000000") as service:
        for encoding, compress in ENCODINGS.values():
            for signs_content in (True, False):
                with subtests.test(encoding, signs_content=signs_content):
                    payload = make_payload(event_id=f"odd-{next(_numbers)}")
                    payload["data"]["transcript"] = "BOT: hello\nHUMAN: yes\n" * 40_000
                    body = encode(payload)
                    sent = compress(body)
                    signature = sign(body if signs_content else sent, SECRET)
                    assert await send_encoded(service, sent, encoding, signature) == 204
                    assert await count_kept(database, body) == 1
        assert await database.pool.fetchval("SELECT count(*) FROM quarantine") == 0


UNDECODABLE: dict[str, tuple[str, bytes]] = {
    "a bomb": ("gzip", gzip.compress(b" " * 4_000_000)),
    "a bomb in a bomb": ("gzip, gzip", gzip.compress(gzip.compress(b" " * 40_000_000))),
    "a bomb of raw deflate": ("deflate", deflate_raw(b" " * 4_000_000)),
    "empty members without end": ("gzip", gzip.compress(b"") * 4_000),
    "over the limit": ("gzip", gzip.compress(b"".join(b"%x" % n**9 for n in range(5_000)))),
    "cut short": ("gzip", gzip.compress(b"{}" * 99)[:-1]),
    "raw deflate cut short": ("deflate", deflate_raw(b"{}" * 99)[:-1]),
    "cut short in the second member": ("gzip", gzip.compress(b"{}") + gzip.compress(b"{}")[:-1]),
    "with something behind it": ("gzip", gzip.compress(b"{}" * 99) + b"x"),
    "deflate with something behind it": ("deflate", zlib.compress(b"{}" * 99) + zlib.compress(b"{}")),
    "with a wrong checksum": ("gzip", gzip.compress(b"{}" * 99)[:-8] + bytes(4) + gzip.compress(b"{}" * 99)[-4:]),
    "one coding less than named": ("gzip, gzip", gzip.compress(b"{}" * 99)),
    "more codings than are decoded": ("gzip, gzip, gzip, gzip, gzip", b"\x1f\x8b"),
    "brotli": ("br", b"\x8b\x02\x80{}\x03"),
    "a known one and an unknown one": ("zstd, gzip", gzip.compress(b"(\xb5/\xfd")),
}


async def test_a_compressed_body_that_cannot_be_read_is_kept_if_it_is_signed_and_else_asked_for_again(
    start_service: StartService, database: Database, subtests: pytest.Subtests
) -> None:
    async with start_service(OUTCOMES_MAX_BODY_BYTES="100000") as service:
        for number, (name, (encoding, content)) in enumerate(UNDECODABLE.items(), 1):
            with subtests.test(name):
                assert await send_encoded(service, content, encoding, sign(b"the content", SECRET)) == 503
                assert await send_encoded(service, content, encoding, sign(content, SECRET)) == 204
                kept = await database.pool.fetch("SELECT reason, detail FROM quarantine WHERE body = $1", content)
                assert ([tuple(row) for row in kept], await count_all(database)) == (
                    [("undecodable", encoding)], number,
                )  # fmt: skip
        assert await read_metric(service, "outcomes_backlog_bytes") == 0


async def test_decoding_bombs_holds_no_more_than_the_bound() -> None:
    bomb = zlib.compress(zlib.compress(bytes(400_000_000), 9), 9)
    decoder = ContentDecoder(5_000_000)
    tracemalloc.start()
    try:
        assert await asyncio.gather(*(decoder.decode(bomb, b"deflate, deflate") for _ in range(20))) == [None] * 20
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()

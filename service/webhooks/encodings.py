"""Decodes compressed bodies: gzip (RFC 1952, of several members) and deflate (zlib's, RFC 1950, and raw, RFC 1951),
also several in a row, as ``Content-Encoding`` lists them (RFC 9110, 8.4).

The one bound is the size of the content, whatever its ratio to the body. A bomb costs at most that much memory, and in
time what a body of that size costs: large bodies are decoded one after the other, in pieces, between which the event
loop serves other requests.
"""

import asyncio
import zlib
from collections.abc import Iterable, Iterator

MAX_CODINGS = 4
MAX_MEMBERS = 1000
"""Of one gzip file: each costs time, even an empty one."""
PIECE_BYTES = 2**16
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class _UndecodableError(Exception):
    """The body is not in this encoding, or its content is too large."""


class ContentDecoder:
    """Decodes bodies whose content has at most ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._turn = asyncio.Lock()

    async def decode(self, body: bytes, encoding: bytes) -> bytes | None:
        """The content of ``body``. ``encoding`` lists the codings in the order in which they were applied. None for
        unknown codings, for a body that they do not decode, and for content over the bound."""
        try:
            codings = _list_codings(encoding)
            if (content := _decode_small(body, codings, self._max_bytes)) is not None:
                return content
            async with self._turn:
                found = []
                for piece in _decode(body, codings, self._max_bytes):
                    found.append(piece)
                    await asyncio.sleep(0)
                return b"".join(found)
        except (_UndecodableError, zlib.error):
            return None


def find_encoding(body: bytes) -> bytes:
    """The encoding that a body shows by itself; empty for none."""
    return b"gzip" if body.startswith(_GZIP_MAGIC) else b""


def _list_codings(encoding: bytes) -> list[bytes]:
    codings = [coding for name in encoding.split(b",") if (coding := name.strip().lower()) not in {b"", b"identity"}]
    if len(codings) > MAX_CODINGS or not {*codings} <= {b"gzip", b"x-gzip", b"deflate"}:
        raise _UndecodableError
    return codings


def _decode_small(body: bytes, codings: list[bytes], max_bytes: int) -> bytes | None:
    """The content if it is one piece. Usually it is, and then waits for nothing."""
    pieces = _decode(body, codings, max_bytes)
    content = next(pieces, b"")
    return content if next(pieces, None) is None else None


def _decode(body: bytes, codings: list[bytes], max_bytes: int) -> Iterator[bytes]:
    pieces: Iterator[bytes] = iter([body])
    if codings:
        pieces = (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))
    for coding in reversed(codings):
        pieces = _bound(_inflate(pieces, may_be_raw=coding == b"deflate"), max_bytes)
    return pieces


def _bound(pieces: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    size_bytes = 0
    for piece in pieces:
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise _UndecodableError
        yield piece


def _inflate(pieces: Iterable[bytes], *, may_be_raw: bool) -> Iterator[bytes]:
    inflater, form, members, rest = None, 0, 0, b""
    for piece in pieces:
        rest += piece
        has_more = True
        while has_more:
            if inflater is None:
                if form == _GZIP:
                    rest = rest.lstrip(b"\0")  # padding
                if len(rest) < len(_GZIP_MAGIC):
                    break
                form = _find_form(rest, form, may_be_raw)
                members += 1
                inflater = zlib.decompressobj(form)
            if members > MAX_MEMBERS:
                raise _UndecodableError
            content = inflater.decompress(rest, PIECE_BYTES)
            yield content
            if inflater.eof:
                rest, inflater = inflater.unused_data, None
                has_more = bool(rest)
            else:
                rest = inflater.unconsumed_tail
                has_more = bool(rest) or len(content) == PIECE_BYTES  # zlib may hold back more of it
    if inflater is not None or members == 0 or rest:
        raise _UndecodableError


def _find_form(start: bytes, former: int, may_be_raw: bool) -> int:
    """The form of what begins here, behind a member of the form ``former`` (0: none): only gzip has several members."""
    if start.startswith(_GZIP_MAGIC) and former in {0, _GZIP}:
        return _GZIP
    if former == 0 and start[0] & 15 == zlib.DEFLATED and int.from_bytes(start[:2]) % 31 == 0:
        return _ZLIB
    if former == 0 and may_be_raw:
        return _RAW
    raise _UndecodableError

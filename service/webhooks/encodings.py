"""Bodies that a sender, or a proxy on the way, has compressed (RFC 9110, section 8.4)."""

import zlib

AUTOMATIC = 32 + zlib.MAX_WBITS  # zlib's or gzip's header
PLAIN_BYTES = 2**16
MOST_TIMES = 50


def decode_content(body: bytes, encoding: bytes, max_bytes: int) -> bytes | None:
    """The content of a body with this Content-Encoding; None for another encoding than gzip and deflate, for a body
    that is not in it, and for content that is over ``max_bytes`` or out of proportion to its body: an unsigned body
    must not cost much more than its own size.
    """
    match encoding.strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip" | b"x-gzip" | b"deflate":
            return _inflate(body, min(max_bytes, PLAIN_BYTES + MOST_TIMES * len(body)))
    return None


def _inflate(body: bytes, most_bytes: int) -> bytes | None:
    inflater = zlib.decompressobj(AUTOMATIC)
    try:
        content = inflater.decompress(body, most_bytes + 1)
    except zlib.error:
        return None
    is_whole = inflater.eof and not inflater.unused_data
    return content if is_whole and len(content) <= most_bytes else None

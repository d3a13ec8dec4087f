"""Requests that offer to change the protocol: answered as if they did not (RFC 9110, section 7.8)."""

import httptools

from service.server.refusals import Header


def open_parser(connection: object) -> httptools.HttpRequestParser:
    """A parser set up like the connection's first one."""
    parser = httptools.HttpRequestParser(connection)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def render_without_upgrade(parser: httptools.HttpRequestParser, url: bytes, headers: list[Header]) -> bytes:
    """The head that was parsed, without its Upgrade.

    The connection stays open only after ``h2c``, which clients offer by default. A proxy in front may take a connection
    for a tunnel once any other protocol was offered, and nobody may send requests past it.
    """
    protocols = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    if protocols == [b"h2c"]:
        kept = [header for header in headers if header[0] != b"upgrade"]
    else:
        kept = [header for header in headers if header[0] not in {b"upgrade", b"connection"}]
        kept.append((b"connection", b"close"))
    line = b"%s %s HTTP/%s\r\n" % (parser.get_method(), url, parser.get_http_version().encode())
    return line + b"".join(b"%s: %s\r\n" % header for header in kept) + b"\r\n"

"""Ports of programs that the service runs beside itself."""

import socket


def find_free_port() -> int:
    """A free port of the loopback. Another process may take it before it is used; the kernel hands out others first."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

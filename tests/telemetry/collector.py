"""A small OpenTelemetry collector: takes spans over HTTP as a real one does, and keeps them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What came: spans, what they are said to be of, and everything as bytes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.raw: list[bytes] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Paths and headers of everything else that was asked for."""

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {pair.key: pair.value.string_value for pair in each.resource.attributes}
            self.resources.append(named)
            self.spans += [span for scope in each.scope_spans for span in scope.spans]

    def find(self, name: str) -> list[Span]:
        """The spans of this name, in the order in which they came."""
        return [span for span in self.spans if span.name == name]


def read_attributes(span: Span) -> dict[str, Any]:
    """A span's attributes as Python has them."""
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


@contextmanager
def collect() -> Iterator[Collector]:
    """Runs one on a free port for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                assert self.headers["content-type"] == "application/x-protobuf"
                collector.take(body)
            self._answer(200)

        def do_GET(self) -> None:
            collector.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self._answer(404)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""One connection to the server: uvicorn's protocol on llhttp, with limits on what a client may send, and the service's
error shape for requests that are not valid HTTP.

A slow request is answered 503 rather than 408, since the provider does not resend a webhook after a 4xx. An ambiguous
request is refused (RFC 9112, sections 3.2, 6.1, 6.3), because a proxy in front may have read it differently.
"""

import asyncio
from collections.abc import Callable, Sized
from typing import Any, Final, NamedTuple

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.server.heads import (
    NO_SLOT,
    TRAILERS,
    RequestError,
    answer_probes_only,
    describe_request,
    expects_continue,
    judge_head,
    open_parser,
    render_refusal,
    render_without_upgrade,
    too_large,
)
from service.server.limits import Activity, ConnectionKeeper, Notes

MAX_LENGTH_DIGITS = 18

NOTHING: Final = 0
HEAD: Final = 1
BODY: Final = 2
_STAGES = {HEAD: "head", BODY: "body"}
_WATCHED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


class Answers(NamedTuple):
    """Writes to the transport directly, and lets the connection decide how it closes."""

    write: Callable[[bytes], None]
    is_closing: Callable[[], bool]
    close: Callable[[], None]


class QueueingFlow(FlowControl):
    """Pauses reading while requests are ``waiting``, so a connection holds no more of them than arrived at once."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting:
            super().resume_reading()


class HttpConnection(HttpToolsProtocol):
    """Reads requests within the keeper's limits, and answers those that it refuses."""

    def __init__(
        self,
        keeper: ConnectionKeeper,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.notes = Notes()
        self.body_bytes = 0
        self.stops = 0
        self._keeper = keeper
        self._limits = keeper.limits
        self._reading = NOTHING
        self._begun = 0
        self._fed = 0
        self._head_bytes = 0
        self._bare_bytes = 0
        self._hosts = 0
        self._fault: RequestError | None = None
        self._is_discarding = False
        self._is_refused = False
        self._is_reserved = False
        self._discarded_bytes = 0
        self._answers: Answers
        self._active: RequestResponseCycle | None = None

    # For the keeper

    @property
    def is_read_paused(self) -> bool:
        is_asking = self._reading == BODY and self.cycle.waiting_for_100_continue
        return self.flow.read_paused or is_asking

    @property
    def is_write_paused(self) -> bool:
        return self.flow.write_paused

    def activity(self) -> Activity:
        """What it is doing, for the keeper."""
        if self._is_refused:
            stage = "refused"
        elif self.transport.is_closing():
            stage = "closing"
        elif self._reading == BODY and self.cycle.response_complete:
            stage = "rest"
        elif self._reading:
            stage = _STAGES[self._reading]
        elif self.cycle is None:
            stage = "silent"
        else:
            stage = "idle" if self.cycle.response_complete else "answering"
        return Activity(stage, self._begun)

    def cut_off(self, reason: str, message: str | None) -> None:
        """Counts the reason, answers 503 if there is a message and an answer is possible, and closes the connection."""
        if message is None or self._reading == NOTHING:
            self._keeper.count_cut(reason)
            self.transport.close()
        else:
            self._refuse(RequestError(503, message, reason))

    # The life of the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        slot = self._keeper.admit(self)
        if slot == "full":
            self.transport = transport
            self._is_discarding = True
            transport.write(render_refusal(503, NO_SLOT, self.server_state.default_headers))
            transport.close()
            return
        super().connection_made(transport)
        self.flow = QueueingFlow(transport, self.pipeline)
        self._answers = Answers(transport.write, transport.is_closing, self._end_after_answer)
        if slot == "reserved":
            self._is_reserved = True
            self.app = answer_probes_only(self.app, self._keeper)

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeper.leave(self)
        if self._active is not None and self._active is not self.cycle:  # the base knows only the last one
            self._active.disconnected = True
            self._active.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._is_refused:
            self.transport.close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        self.stops += 1
        super().pause_writing()

    # Input

    def data_received(self, data: bytes) -> None:
        if self._is_discarding:
            self._discard(len(data))
            return
        self._fed = len(data)
        reading, begun, body_bytes = self._reading, self._begun, self.body_bytes
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, RequestError) else RequestError(400, "Not an HTTP request"))
        else:
            if self._reading == HEAD:
                # A chunk that also contains an earlier request does not count for the head.
                is_head_alone = reading == HEAD or (reading == NOTHING and self._begun == begun + 1)
                self._bound_head(self._fed if is_head_alone else 0)
            elif self._reading == BODY:
                self._bare_bytes = 0 if self.body_bytes != body_bytes else self._bare_bytes + self._fed
                if self._bare_bytes > self._limits.head_bytes:  # endless chunk extensions or trailers
                    self._refuse(RequestError(400, "The body has too many bytes of chunk extensions or trailers"))

    def _feed(self, data: bytes) -> None:
        """Parses. A request that offers another protocol is parsed again without the offer, because llhttp takes what
        follows its head for the other protocol: the body would be lost, or read as a request."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = render_without_upgrade(self.parser, self.url, self.headers) + data[upgrade.args[0] :]
                self.parser = open_parser(self)
            else:
                return

    def on_message_begin(self) -> None:
        self._reading = HEAD
        self._begun += 1
        self._head_bytes = self._hosts = 0
        self._fault = None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _WATCHED:
            if name == b"host":
                self._hosts += 1
            elif name == b"content-length":
                if len(value) > MAX_LENGTH_DIGITS:
                    self._fault = RequestError(400, f"Content-Length: takes up to {MAX_LENGTH_DIGITS} digits")
            elif name == b"expect":
                self.expect_100_continue = self.expect_100_continue or expects_continue(value)
            elif value.lower() != b"chunked":
                self._fault = RequestError(501, "Transfer-Encoding: takes chunked and nothing else")
            elif self.parser.get_http_version() != "1.1":
                self._fault = RequestError(400, "Transfer-Encoding: is not of HTTP/1.0")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, limits = self.parser.get_http_version(), self._limits
        if (
            self._fed + self._head_bytes > limits.head_bytes
            or len(self.headers) > limits.headers
            or self._hosts != 1
            or version != "1.1"
            or self._fault is not None
            or len(self.pipeline) >= limits.pipelined
        ):
            queued = len(self.pipeline)
            judge_head(limits, self.url, self.headers, version, hosts=self._hosts, queued=queued, fault=self._fault)
        describe_request(self.scope, self.parser, self.url)
        if self.parser.should_upgrade():
            return  # HttpParserUpgrade follows
        cycle = self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self._answers,  # type: ignore[arg-type]  # it needs these methods only
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=version == "1.1" and self.parser.should_keep_alive() and not self._is_reserved,
            on_response=self.on_response_complete,
        )
        self._reading = BODY
        self.body_bytes = self._bare_bytes = self._discarded_bytes = 0
        self.headers = TRAILERS
        if self._active is None:
            self._active = cycle
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        self.body_bytes += len(body)
        if cycle.response_complete:
            self._discard(len(body))
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._reading == HEAD:
            return  # the head of an upgrade is parsed again
        self._reading = NOTHING
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._active = None
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._active, app = self.pipeline.pop()
            self._start_asgi_task(self._active, app)
        self.flow.resume_reading()

    # Refusals

    def _bound_head(self, more_bytes: int) -> None:
        """Refuses a head that has become too large before it is complete."""
        self._head_bytes += more_bytes
        if self._head_bytes > self._limits.head_bytes or len(self.headers) > self._limits.headers:
            self._refuse(too_large(self._limits, self.url))

    def _refuse(self, refused: RequestError) -> None:
        """Answers a refused request when its turn comes, and discards what else its client sends."""
        self._keeper.count_cut(refused.reason)
        reading, active, self._reading, self._is_discarding = self._reading, self._active, NOTHING, True
        if reading == BODY and active is self.cycle and not active.response_started:
            active.disconnected = True
            active.message_event.set()
        elif reading == BODY and active is None:
            self._linger()  # it is already answered
            return
        elif reading == BODY and active is self.cycle:
            self.transport.close()  # its answer has begun, so there cannot be another
            return
        elif active is not None:
            if reading == BODY:
                self.pipeline.popleft()
                self.cycle = self.pipeline[0][0] if self.pipeline else active
            self.cycle.keep_alive = False  # requests before it are answered, then the connection closes
            return
        self.transport.write(render_refusal(refused.status, refused.message, self.server_state.default_headers))
        self._linger()

    def _end_after_answer(self) -> None:
        """Closes after an answer, and lingers first if the client is still sending."""
        if self.transport.is_closing():
            return
        is_whole = self._active is not None and self._active.response_complete
        if is_whole and (self._reading != NOTHING or self.pipeline):
            self.pipeline.clear()
            self._reading = NOTHING
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Sends nothing more, and discards input until the client closes or a limit is reached. Closing with unread
        input would reset the connection, and the client would lose the answer (RFC 9112, section 9.6)."""
        self._is_refused = self._is_discarding = True
        self._discarded_bytes = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _discard(self, size_bytes: int) -> None:
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self._limits.linger_bytes and not self.transport.is_closing():
            self.cut_off("unread_body", None)

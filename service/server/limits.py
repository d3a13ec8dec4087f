"""What a client may ask of the server itself, and what the keeper of its connections knows of each."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Place = Literal["open", "reserved", "full"]
"""What a new connection gets: a place, one for a probe, or none."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
STAGES = ("silent", "head", "body", "answering", "idle", "rest", "refused", "closing")


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What a client may ask of the server itself, before any application sees it."""

    connections: int = 2000
    reserve: int = 64
    """Places beyond ``connections``, for one answer each: to a probe, or that the service is full."""
    head_bytes: int = 64 * 1024
    """Of the URL and the headers together."""
    headers: int = 100
    pipelined: int = 8
    """Requests that may wait for the answer to the one before."""
    head_seconds: float = 10.0
    """From the connection, or the first byte of a further request, until the headers are complete."""
    idle_seconds: float = 75.0
    """Between two requests."""
    stalled_seconds: float = 10.0
    """Without any byte of a body."""
    body_bytes_per_second: float = 1024.0
    """What a body comes with at least, on average, once it has taken ``patience_seconds``."""
    answer_bytes_per_second: float = 1024.0
    """What is taken of an answer at least, likewise."""
    patience_seconds: float = 30.0
    untaken_bytes: int = 256 * 2**20
    """What all clients together may leave untaken of answers that are ready."""
    linger_seconds: float = 10.0
    """How long what a client still sends after its answer is discarded, so that it comes to read the answer."""
    linger_bytes: int = 128 * 2**20
    """How much of it."""
    sweep_seconds: float = 1.0
    clock: Callable[[], float] = time.monotonic


DEFAULT_CONNECTION_LIMITS = ConnectionLimits()


class Doing(NamedTuple):
    """What a connection is at, and with which of its requests."""

    stage: str
    """One of ``STAGES``. ``silent``: never sent a request; ``head``, ``body``: of a request, coming; ``answering``: it
    is our turn; ``idle``: between two requests; ``rest``: answered, and its body still comes; ``refused``: what it
    still sends is thrown away; ``closing``: only takes what is left of its answer."""
    request: int


class Watched(Protocol):
    """What the keeper needs of a connection."""

    transport: asyncio.Transport
    notes: "Notes"
    body_bytes: int
    """That have come of the present request."""
    stops: int
    """How often its client has taken too little of an answer to go on writing."""

    @property
    def is_read_paused(self) -> bool:
        """It is us who let the client wait."""

    @property
    def is_write_paused(self) -> bool:
        """The client has not taken enough of an answer yet to go on writing."""

    def tell_doing(self) -> Doing:
        """What it is at."""

    def cut_off(self, reason: str, message: str | None) -> None:
        """Counts the reason, answers 503 where there is a message and an answer is possible, and closes it."""


class Notes:
    """What a sweep has seen of a connection."""

    __slots__ = ("body_bytes", "doing", "moved_at", "reading_seconds", "since", "stopped_at", "stops", "untaken_bytes")

    def __init__(self) -> None:
        self.doing: Doing | None = None
        self.since = 0.0
        self.body_bytes = 0
        self.moved_at = 0.0
        self.reading_seconds = 0.0
        self.stops = -1
        self.stopped_at = 0.0
        self.untaken_bytes = 0

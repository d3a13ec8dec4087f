"""What an answer is written to, in place of the connection's transport."""

from collections.abc import Callable


class Answers:
    """Writes to the transport directly, and lets the connection decide how it closes."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(
        self, write: Callable[[bytes], None], is_closing: Callable[[], bool], close: Callable[[], None]
    ) -> None:
        self.write = write
        self.is_closing = is_closing
        self.close = close

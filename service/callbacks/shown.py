"""A callback in the row of its recipient, as readers of recipients and of the feed see it."""

from datetime import date

import msgspec

from service.web.responses import Time


class ShownCallback(msgspec.Struct):
    """A result of the latest attempt that is a time to call back or a promise: see ``GET /v1/callbacks``."""

    result: str
    """The name of the result."""
    value: str
    """What it says, as text."""
    due_at: Time | None
    """Null where the text is no time; of a day its beginning in the zone of the setting."""
    due_on: date | None
    """The day, if it is due on a day: the same for every reader."""
    is_done: bool
    done_at: Time | None


class CallbackSaid(msgspec.Struct):
    """A result of an attempt that is a time to call back or a promise."""

    result: str
    value: str
    due_at: Time | None
    due_on: date | None

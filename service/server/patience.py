"""How long a client may take, held against what a sweep sees of its connection now and saw of it before."""

from service.server.limits import ConnectionLimits, Watched


def look_at(limits: ConnectionLimits, connection: Watched, now: float, elapsed: float) -> None:
    """Notes what a connection is doing, and cuts it off where that takes too long. ``elapsed``: since the last look."""
    doing, notes = connection.tell_doing(), connection.notes
    if doing != notes.doing:
        notes.doing, notes.since, notes.moved_at = doing, now, now
        notes.body_bytes, notes.reading_seconds = connection.body_bytes, 0.0
    waited = now - notes.since
    match doing.stage:
        case "silent" if waited >= limits.head_seconds:
            connection.cut_off("silent", None)
        case "head" if waited >= limits.head_seconds and not connection.is_read_paused:
            connection.cut_off("slow_head", f"The headers did not arrive within {limits.head_seconds:g} s")
        case "idle" if waited >= limits.idle_seconds:
            connection.transport.close()
        case "rest" if waited >= limits.linger_seconds:
            connection.cut_off("unread_body", None)
        case "refused" if waited >= limits.linger_seconds:
            connection.transport.close()
        case "body":
            _look_at_body(limits, connection, now, elapsed)


def _look_at_body(limits: ConnectionLimits, connection: Watched, now: float, elapsed: float) -> None:
    notes = connection.notes
    if connection.is_read_paused or connection.body_bytes != notes.body_bytes:
        notes.moved_at, notes.body_bytes = now, connection.body_bytes
    if connection.is_read_paused:  # it is ours to go on
        return
    notes.reading_seconds += min(elapsed, now - notes.since)
    seconds = notes.reading_seconds
    if now - notes.moved_at >= limits.stalled_seconds:
        connection.cut_off("slow_body", f"Nothing of the body arrived for {limits.stalled_seconds:g} s")
    elif seconds >= limits.patience_seconds and notes.body_bytes < limits.body_bytes_per_second * seconds:
        rate = limits.body_bytes_per_second
        connection.cut_off("slow_body", f"The body came with less than {rate:g} bytes a second")


def takes_too_little(limits: ConnectionLimits, connection: Watched, now: float, size: int) -> bool:
    """Whether a client takes too little of its answer, of which ``size`` bytes are left. Nothing is added to a
    transport that is full or closing: what has become less since it stopped was taken."""
    notes = connection.notes
    if notes.stops != connection.stops:
        notes.stops, notes.stopped_at, notes.untaken_bytes = connection.stops, now, size
    seconds, taken = now - notes.stopped_at, notes.untaken_bytes - size
    is_long = size > 0 and seconds >= 2 * limits.patience_seconds
    return is_long and taken < limits.answer_bytes_per_second * seconds

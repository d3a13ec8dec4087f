"""How a call goes: the outcome model. What happens depends on (seed, batch, row, attempt) and on nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from service.sandbox.dice import dice

FAILURE_WEIGHTS = {
    "no_answer": 54.0,
    "busy": 19.0,
    "unreachable": 14.0,
    "failed": 10.0,
    "telephony_failed": 2.0,
    "socket_failure": 1.0,
}
_RETRY_FACTORS = {
    "busy": 1 / 3,
    "socket_failure": 1 / 6,
    "telephony_failed": 1 / 2,
    "failed": 1 / 2,
    "no_answer": 1.0,
    "unreachable": 2.0,
}
_SECONDS_BEFORE = {
    "completed": (4.0, 24.0),
    "no_answer": (25.0, 40.0),
    "busy": (2.0, 6.0),
    "unreachable": (5.0, 15.0),
    "failed": (0.5, 3.0),
    "telephony_failed": (3.0, 15.0),
    "socket_failure": (4.0, 24.0),
}
"""Between dialling and the answer; where nobody answers, until the provider gives up."""

_REASONS = {
    "no_answer": ("No answer within the ring time",),
    "busy": ("User busy", "Call rejected"),
    "unreachable": ("Subscriber not reachable", "Number switched off", "Out of coverage area"),
    "failed": ("Call set-up failed", "Invalid number format at carrier", "Temporary failure"),
    "telephony_failed": ("Carrier error 503", "Carrier dropped the call after initiation"),
    "socket_failure": ("Voice stream did not start",),
}
_MEDIAN_TALK_SECONDS, _TALK_SIGMA, _LONGEST_TALK_SECONDS = 90.0, 0.55, 900


@dataclass(frozen=True, slots=True)
class Call:
    """What will happen in a call. Never connected: no talk and no end, only the moment of dialling."""

    status: str
    seconds_before: float
    duration_seconds: int | None
    failure_reason: str | None
    retry_factor: float
    """The wait before the next attempt, as a multiple of the wait after a call that nobody answered."""

    @property
    def is_connected(self) -> bool:
        return self.duration_seconds is not None


def draw_call(
    seed: int, ordinal: int, row: int, number: int, *, completed_share: float, script: Sequence[str] = ()
) -> Call:
    """The call of attempt ``number`` (from 1) to a row (from 0) of the run's nth batch."""
    chance = dice(seed, "call", ordinal, row, number)
    status = _draw_status(chance, completed_share)
    if script:
        status = script[min(number, len(script)) - 1]
    if status == "completed":
        talk = chance.lognormvariate(0, _TALK_SIGMA) * _MEDIAN_TALK_SECONDS
        duration: int | None = min(max(5, round(talk)), _LONGEST_TALK_SECONDS)
    else:
        # Connected, but nobody talked: the provider may well count a few seconds.
        duration = chance.randrange(4) if status in ("socket_failure", "telephony_failed") else None
    return Call(
        status=status,
        seconds_before=round(chance.uniform(*_SECONDS_BEFORE[status]), 3),
        duration_seconds=duration,
        failure_reason=chance.choice(_REASONS[status]) if status in _REASONS else None,
        retry_factor=_RETRY_FACTORS.get(status, 0.0) * chance.uniform(0.9, 1.1),
    )


def _draw_status(chance: Random, completed_share: float) -> str:
    if chance.random() < completed_share:
        return "completed"
    return chance.choices(list(FAILURE_WEIGHTS), weights=list(FAILURE_WEIGHTS.values()))[0]

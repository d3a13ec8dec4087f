"""The backlog: memory stays bounded, what leaves makes room, and the gauges are right."""

import pytest

from service.errors import OverloadedError
from service.telemetry.metrics import Metrics
from service.webhooks.backlog import Backlog, BacklogLimits


def read_gauges(metrics: Metrics) -> tuple[float | None, float | None]:
    registry = metrics.registry
    return registry.get_sample_value("outcomes_backlog_events"), registry.get_sample_value("outcomes_backlog_bytes")


def test_one_more_request_than_there_is_room_for_is_refused_and_counts_for_nothing() -> None:
    metrics = Metrics()
    backlog = Backlog(metrics, BacklogLimits(events=2))
    backlog.enter()
    backlog.enter()
    with pytest.raises(OverloadedError, match="2 events are already waiting"):
        backlog.enter()
    assert read_gauges(metrics) == (2, 0)


def test_a_request_that_leaves_makes_room_for_another() -> None:
    backlog = Backlog(Metrics(), BacklogLimits(events=1))
    backlog.enter()
    backlog.leave(0)
    backlog.enter()


def test_bytes_are_taken_up_to_the_bound_and_refused_beyond_it() -> None:
    metrics = Metrics()
    backlog = Backlog(metrics, BacklogLimits(body_bytes=100))
    backlog.enter()
    backlog.grow(100)
    with pytest.raises(OverloadedError, match="100 bytes are already waiting"):
        backlog.grow(1)
    assert read_gauges(metrics) == (1, 100)


def test_bytes_of_a_request_that_left_make_room_again() -> None:
    metrics = Metrics()
    backlog = Backlog(metrics, BacklogLimits(body_bytes=100))
    backlog.enter()
    backlog.enter()
    backlog.grow(60)
    backlog.grow(40)
    backlog.leave(60)
    backlog.grow(60)
    assert read_gauges(metrics) == (1, 100)


def test_everything_that_came_and_went_leaves_nothing_behind() -> None:
    metrics = Metrics()
    backlog = Backlog(metrics, BacklogLimits())
    for size in (0, 1, 1000):
        backlog.enter()
        backlog.grow(size)
    for size in (0, 1, 1000):
        backlog.leave(size)
    assert read_gauges(metrics) == (0, 0)


def test_by_default_memory_is_bounded_and_callers_are_answered_within_the_providers_ten_seconds() -> None:
    assert BacklogLimits() == BacklogLimits(events=20_000, body_bytes=128 * 2**20, hold_seconds=8.0)

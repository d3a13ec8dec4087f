"""The metrics at ``/metrics``: one object, made in ``app`` and passed down. The help texts define the metrics."""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector


class _Collector:
    """Values that become samples at each scrape."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name = name
        self._help_text = help_text
        self._labels = labels
        registry.register(self)  # type: ignore[arg-type]  # subclasses collect


class Tally(_Collector):
    """A counter for the hot path: a plain dict of counts by label values. The library's counter takes a lock for each
    increment, which costs as much as verifying a signature."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        super().__init__(name, help_text, labels, registry)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For the registry."""
        family = CounterMetricFamily(self._name, self._help_text, labels=self._labels)
        for values, count in list(self.counts.items()):
            family.add_metric(values, count)
        yield family


class Levels(_Collector):
    """A gauge whose values are all read at each scrape: ``read`` returns the level of each value of its one label."""

    read: Callable[[], Mapping[str, int]] = dict

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry."""
        family = GaugeMetricFamily(self._name, self._help_text, labels=self._labels)
        for value, level in self.read().items():
            family.add_metric([value], level)
        yield family


class Timings(_Collector):
    """A histogram for the hot path, like ``Tally``: a list of counts for each value of its one label."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._bounds = tuple(bounds)
        # A count for each bucket, a count of longer times, and the sum of all seconds.
        self._slots: defaultdict[str, list[float]] = defaultdict(lambda: [0] * (len(bounds) + 2))
        super().__init__(name, help_text, labels, registry)

    def observe(self, value: str, seconds: float) -> None:
        """Counts one observation under this value of the label."""
        slots = self._slots[value]
        slots[bisect_left(self._bounds, seconds)] += 1
        slots[-1] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the registry."""
        family = HistogramMetricFamily(self._name, self._help_text, labels=self._labels)
        for value, slots in list(self._slots.items()):
            *counts, seconds = slots
            bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
            family.add_metric([value], list(zip(bounds, accumulate(counts), strict=True)), seconds)
        yield family


class Metrics:
    """All metrics of one service instance, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram, tally = partial(Histogram, registry=registry), partial(Tally, registry=registry)
        self.webhooks = tally(
            "outcomes_webhooks",
            "Webhook requests by target and answer: stored, authentication_error, not_found, too_large, overloaded, "
            "unavailable, disconnected, failed.",
            ["target", "answer"],
        )
        self.webhook_seconds = Timings(
            "outcomes_webhook_seconds",
            "Seconds from a webhook's headers to its answer, by answer: stored (204, after its commit), refused (4xx), "
            "deferred (503). The provider gives up at 10.",
            ["answer"],
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10),
            registry,
        )
        self.secret_used = tally(
            "outcomes_webhook_secret_used",
            "Webhooks verified, by target and the secret's number in its list, from 1. An unused one can be removed.",
            ["target", "secret"],
        )
        self.events = counter(
            "outcomes_events",
            "Events committed, by what became of them: applied, duplicate, conflict, unattributed, other_call, "
            "quarantined.",
            ["disposition"],
        )
        self.groups = counter("outcomes_groups", "Groups committed.")
        self.group_failures = counter(
            "outcomes_group_failures",
            "Failed attempts to write a group; it is retried until its events have waited too long.",
        )
        self.spilled_groups = counter(
            "outcomes_spilled_groups", "Messages put into the spill stream while Postgres was away: a group, or a part."
        )
        self.spilled_events = counter("outcomes_spilled_events", "Events in these messages.")
        self.spill_failures = counter(
            "outcomes_spill_failures", "Groups that neither Postgres nor the spill stream took, at each try."
        )
        self.spill_reachable = gauge(
            "outcomes_spill_reachable",
            "1, while this process can put webhooks into the spill stream, or none is configured; else 0.",
        )
        self.spill_reachable.set(1)
        self.spill_waiting_events = gauge(
            "outcomes_spill_waiting_events",
            "Events that waited in the spill stream when this process last looked, as the one that drains it; else 0.",
        )
        self.spill_oldest_seconds = gauge(
            "outcomes_spill_oldest_seconds", "Seconds for which the oldest of them had waited; 0: none."
        )
        self.drained_events = counter(
            "outcomes_drained_events", "Events taken from the spill stream and committed to Postgres."
        )
        self.background_failures = counter(
            "outcomes_background_failures", "Background tasks that died and were restarted, by task.", ["task"]
        )
        self.commit_seconds = histogram(
            "outcomes_commit_seconds",
            "Time to write and commit one group.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 8),
        )
        self.last_commit = gauge(
            "outcomes_last_commit_timestamp_seconds",
            "When this process last committed a group of webhooks, in Unix time; 0: not since it started.",
        )
        self.backlog_events = gauge("outcomes_backlog_events", "Events that wait for their commit.")
        self.backlog_bytes = gauge("outcomes_backlog_bytes", "Bytes of their bodies.")
        self.connections = Levels(
            "outcomes_connections",
            "Open connections by stage: silent (never sent a request), head and body (being received), "
            "answering, idle, rest (of a body, after its answer), refused, closing.",
            ["stage"],
            registry,
        )
        self.connections_cut = tally(
            "outcomes_connections_cut",
            "Connections refused or cut off, by reason: silent, slow_head, large_head, malformed, slow_body, "
            "unread_body, pipelined, untaken (too little of an answer), made_room (for another one), full.",
            ["reason"],
        )
        self.provider_calls = counter(
            "outcomes_provider_calls",
            "Calls to the provider's API by operation and status (0: no answer).",
            ["operation", "status"],
        )
        self.healed = counter(
            "outcomes_healed_calls", "Calls recovered from their conversations, because no webhook reported them."
        )
        self.learned_suppressions = counter(
            "outcomes_learned_suppressions",
            "People suppressed because the result of a call matched a rule of its agent.",
        )
        self.reconciliations = counter(
            "outcomes_reconciliations",
            "Comparisons of a batch with the provider, by verdict; failed: the provider could not be read.",
            ["verdict"],
        )
        self.list_flaws = counter(
            "outcomes_provider_list_flaws",
            "Flaws in the provider's lists, at each reading, by list (batches, conversations) and reason. "
            "Entries skipped: not_an_object, no_id, no_agent; list left before its end: list_repeats, list_too_long.",
            ["list", "reason"],
        )
        self.last_reconciliation = gauge(
            "outcomes_last_reconciliation_timestamp_seconds",
            "When this process last compared a batch with the provider, in Unix time; 0: not since it started.",
        )
        self.reconciliation_overdue_seconds = gauge(
            "outcomes_reconciliation_overdue_seconds",
            "Seconds for which the longest overdue comparison has waited; 0: none is due.",
        )
        self.exports = counter(
            "outcomes_exports",
            "Exports by name, format and ending: done, disconnected, stalled, too_slow, failed.",
            ["name", "format", "ending"],
        )
        self.alarms = gauge("outcomes_alarms", "Count of each alarm at GET /v1/alarms, by name; 0: no alarm.", ["name"])
        self.alarm_age_seconds = gauge(
            "outcomes_alarm_age_seconds", "Seconds for which an alarm has lasted, by name.", ["name"]
        )
        self.retention_deleted = counter(
            "outcomes_retention_deleted_rows", "Rows that retention deleted, by kind; for bodies, steps.", ["kind"]
        )
        self.feed_consumer_lag = gauge(
            "outcomes_feed_consumer_lag",
            "Entries of the feed that a consumer has not acknowledged; exact up to 1000, an upper bound beyond.",
            ["consumer"],
        )
        self.feed_consumer_lag_seconds = gauge(
            "outcomes_feed_consumer_lag_seconds",
            "Seconds for which the first entry that a consumer has not acknowledged has been there; 0: no such entry.",
            ["consumer"],
        )
        self.feed_waiters = gauge("outcomes_feed_waiters", "Readers that wait for the feed to move.")
        self.feed_position = gauge(
            "outcomes_feed_position",
            "Position of the feed's last entry: how fast it grows is how fast outcomes change.",
        )
        self.http_requests = counter(
            "outcomes_http_requests",
            "Requests except webhooks, by method, route and status; route: the template of the path, or unknown; "
            "status 0: the service ended before it answered.",
            ["method", "route", "status"],
        )
        self.sign_ins = counter(
            "outcomes_sign_ins",
            "Sign-ins to the console by method (key, oidc) and outcome: opened, refused, slowed (too many tries).",
            ["method", "outcome"],
        )
        self.http_request_seconds = histogram(
            "outcomes_http_request_seconds",
            "Seconds from such a request's headers to the end of its answer, by route. Waiting for the feed (wait=) "
            "and sending an export are part of it.",
            ["route"],
            buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.loop_lag_seconds = histogram(
            "outcomes_loop_lag_seconds",
            "Seconds by which a timer of the event loop is late, measured four times a second: everything in this "
            "process waits that long for its turn.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        self.database_connections = gauge(
            "outcomes_database_connections",
            "Connections of the pool that serves everything but webhooks, by state: used, idle. Readers wait when as "
            "many are used as outcomes_database_connections_max.",
            ["state"],
        )
        self.database_connections_max = gauge(
            "outcomes_database_connections_max", "How many connections that pool may have."
        )
        self.build_info = gauge(
            "outcomes_build_info",
            "1, with the service's version and the last migration that it knows (schema) as labels.",
            ["version", "schema"],
        )
        self.runbook_info = gauge(
            "outcomes_runbook_info", "1, with OUTCOMES_RUNBOOK_URL as label, to which the alert rules link.", ["url"]
        )

    def render(self) -> bytes:
        """The exposition format's text."""
        return generate_latest(self.registry)


INTERVAL_SECONDS = 0.25


class LoopLag:
    """Measures how late a timer of the event loop fires."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._metrics = metrics
        self._sleep = sleep
        self._clock = clock or asyncio.get_running_loop().time

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            began = self._clock()
            await self._sleep(INTERVAL_SECONDS)
            self._metrics.loop_lag_seconds.observe(max(0.0, self._clock() - began - INTERVAL_SECONDS))

"""Batches as the provider returns them. Each list entry and each field is read leniently on its own.

An entry is usable when it has an id. Any other field that is missing, null or of the wrong type is None, which means
"unknown" and never replaces a known value. An unusable entry does not affect the rest of the page.
"""

from datetime import datetime
from typing import NamedTuple

import msgspec

from service.formant.lenient import EXACT_FLOAT, decode_leniently, read_data, to_float, to_int, to_text, to_time
from service.formant.plausible import (
    LARGEST_COUNT,
    LARGEST_ID,
    LONGEST_CALL_SECONDS,
    plausible_epoch,
    plausible_time,
    within,
)

TEXT_LIMIT = 1000


class ProviderBatch(msgspec.Struct):
    """A batch as the provider returns it. ``status`` may be any word; null means unknown."""

    id: int
    agent_id: int | None = None
    name: str | None = None
    status: str | None = None
    total_recipients: int | None = None
    created_at: datetime | None = None


class OddEntry(msgspec.Struct):
    """An entry of the list that is not usable, with the reason and its readable fields."""

    reason: str
    agent_id: int | None = None
    name: str | None = None
    total_recipients: int | None = None
    created_at: datetime | None = None


class BatchPage(NamedTuple):
    """One page of the list. ``odd`` has the entries that are not usable, by their place on it; ``keys`` one of each."""

    data: list[ProviderBatch]
    odd: dict[int, OddEntry]
    keys: list[int]
    has_more: bool | None


class BatchList(NamedTuple):
    """The whole list: its batches by their ids, and the entries that are not usable."""

    batches: dict[int, ProviderBatch]
    odd: list[OddEntry]


class ProviderMetrics(msgspec.Struct):
    """The twelve figures of a batch; they count recipients. Rates are in percent, durations in seconds.

    Null means that the provider did not give the figure, which differs from 0.
    """

    avg_duration_seconds: float | None = None
    busy_count: int | None = None
    completed_count: int | None = None
    failed_count: int | None = None
    in_progress_count: int | None = None
    no_answer_count: int | None = None
    pending_retry_count: int | None = None
    socket_failure_count: int | None = None
    success_count: int | None = None
    success_rate: float | None = None
    total_processed: int | None = None
    unreachable_count: int | None = None


def decode_batch_page(body: bytes) -> BatchPage:
    """A page of the list; entries with the same id are merged. Raises msgspec.ValidationError when it is not a list."""
    content = decode_leniently(body)
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(entries, list):
        raise msgspec.ValidationError("no list of batches")
    found: dict[int, ProviderBatch] = {}
    odd: dict[int, OddEntry] = {}
    keys = []
    for place, entry in enumerate(entries):
        batch = _read_batch(entry)
        if isinstance(batch, OddEntry):
            odd[place] = batch
            keys.append(hash(msgspec.json.encode(entry)))
        else:
            found[batch.id] = _fill(found[batch.id], batch) if batch.id in found else batch
            keys.append(batch.id)
    has_more = content.get("has_more")
    return BatchPage(list(found.values()), odd, keys, has_more if isinstance(has_more, bool) else None)


def decode_batch(body: bytes, batch_id: int | None = None) -> ProviderBatch:
    """One batch. Raises msgspec.ValidationError when it is not a batch, or not ``batch_id``."""
    data = read_data(body)
    if isinstance(data, dict) and batch_id is not None and data.get("id") is None:
        data["id"] = batch_id
    batch = _read_batch(data)
    if isinstance(batch, OddEntry) or batch_id not in {None, batch.id}:
        raise msgspec.ValidationError("no batch, or another one")
    return batch


def decode_metrics(body: bytes) -> ProviderMetrics:
    """The figures of one batch; an absent or impossible figure is None. Raises msgspec.ValidationError when ``data`` is
    not an object."""
    data = read_data(body)
    if not isinstance(data, dict):
        raise msgspec.ValidationError("no figures")
    limits = {"avg_duration_seconds": LONGEST_CALL_SECONDS, "success_rate": 100}
    figures: dict[str, float] = {}
    for name in ProviderMetrics.__struct_fields__:
        value = (to_float if name in limits else to_int)(data.get(name))
        if value is not None and 0 <= value <= limits.get(name, LARGEST_COUNT):
            figures[name] = value
    return msgspec.convert(figures, ProviderMetrics)


def _read_batch(entry: object) -> ProviderBatch | OddEntry:
    if not isinstance(entry, dict):
        return OddEntry("not_an_object")
    batch_id = _read_id(entry.get("id"))
    agent_id, name = _read_id(entry.get("agent_id")), _read_text(entry.get("name"))
    total = within(to_int(entry.get("total_recipients")), 0, LARGEST_COUNT)
    created_at = _read_time(entry.get("created_at"))
    if batch_id is None:
        return OddEntry("no_id", agent_id, name, total, created_at)
    return ProviderBatch(batch_id, agent_id, name, _read_text(entry.get("status")), total, created_at)


def _read_id(value: object) -> int | None:
    """A positive whole number that fits a bigint, also from text. None where rounding may have changed it."""
    if isinstance(value, str):
        digits = value.strip()
        value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 19 else None
    elif isinstance(value, float):
        value = int(value) if value.is_integer() and abs(value) < EXACT_FLOAT else None
    return within(value, 1, LARGEST_ID) if isinstance(value, int) and not isinstance(value, bool) else None


def _read_text(value: object) -> str | None:
    text = to_text(value)
    return text[:TEXT_LIMIT] if text else None


def _read_time(value: object) -> datetime | None:
    """A time from ISO 8601, or from an epoch in seconds or milliseconds. Without a zone it is UTC."""
    number = to_float(value)
    return plausible_time(to_time(value)) if number is None else plausible_epoch(number)


def _fill(first: ProviderBatch, later: ProviderBatch) -> ProviderBatch:
    """The first of two entries for one batch, completed from the later one."""
    added = {name: value for name, value in msgspec.structs.asdict(later).items() if getattr(first, name) is None}
    return msgspec.structs.replace(first, **added)

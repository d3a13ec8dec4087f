"""From entries of the feed to records of a CRM, by the mapping.

Nobody is left out silently: a recipient without a key is a failure, and a batch of whose recipients none has one means
that the mapping is wrong.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.crm.entries import NULL, Entry, UnreadableError, read_field, read_names, suggest
from service.crm.exchange import SyncError
from service.crm.mapping import Mapping, Property

BLANKS = 10  # so many recipients of a batch with an empty key, and none with one, are no accident
SHOWN_NAMES = 20
SKIPS = ("overtaken", "not_final", "filtered", "without_key", "erased", "withdrawn", "gone")  # why one is not sent


@dataclass(frozen=True)
class Record:
    """What one record of the CRM is to be. ``position`` is that of the entry it comes from."""

    key: str
    properties: dict[str, Any]
    position: int
    batch_id: int | None
    recipient: int
    own: frozenset[str] = frozenset()
    """What is this person's and, like the key, stays out of what is shown: the phone, the parameters."""


@dataclass(frozen=True)
class Failure:
    """An outcome that is not in the CRM, and why; ``summary`` is the reason without what is the record's own."""

    key: str
    position: int
    batch_id: int | None
    recipient: int
    reason: str
    summary: str = ""


@dataclass
class Mapped:
    """Entries as records, one per key: the last. ``skipped`` counts the others by reason."""

    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


class Mapper:
    """Applies a mapping to entries. ``accepts_keyless``: batches without the key's column are skipped."""

    def __init__(self, mapping: Mapping, *, accepts_keyless: bool = False) -> None:
        self._key = mapping.key
        self._accepts_keyless = accepts_keyless
        self._rules = mapping.rules()
        self._constants = mapping.constants
        self._only_final = mapping.only_final
        self._batches = None if mapping.filter.batches is None else frozenset(mapping.filter.batches)
        self._gone = {"erased": mapping.erased.properties, "withdrawn": mapping.withdrawn.properties}
        self._zone = mapping.zone()

    def map(self, entries: Iterable[Entry]) -> Mapped:
        """The records of entries that come in the feed's order. An entry that a later one of the same key overtakes is
        not sent: no target takes a key twice in a batch, and the later one is the state."""
        mapped, latest = Mapped(), dict[str, Record | Failure]()
        for entry in entries:
            item = self._try_one(entry)
            if isinstance(item, str):
                mapped.skipped[item] += 1
                continue
            if latest.pop(item.key, None) is not None:
                mapped.skipped["overtaken"] += 1
            latest[item.key] = item
        for item in latest.values():
            if isinstance(item, Record):
                mapped.records.append(item)
            else:
                mapped.failures.append(item)
        return mapped

    def check_keys(self, entries: Iterable[Entry]) -> None:
        """Raises SyncError for a batch that the entries show to have no key: none of its recipients has the column, or
        many have it and all leave it empty. A recipient without any parameters says nothing about that."""
        name = self._key.parameter
        if name is None or self._accepts_keyless:
            return
        batches: dict[int | None, list[tuple[bool, set[str]]]] = {}
        for entry in entries:
            if entry.state in self._gone or self._is_filtered(entry):
                continue
            with suppress(UnreadableError):
                if names := read_names(entry, "parameters"):
                    batches.setdefault(entry.batch_id, []).append((bool(self.read_key(entry)), names))
        for batch_id, seen in batches.items():
            columns = set[str]().union(*(names for _, names in seen))
            if any(has_key for has_key, _ in seen) or (name in columns and len(seen) < BLANKS):
                continue
            who = f"no recipient of batch {batch_id} has" if name not in columns else f"batch {batch_id} has nothing in"
            raise SyncError(
                f"key.parameter: {who} {name!r}{suggest(name, columns - {name})}; {list_names('columns', columns)}. "
                "Nothing of this page was sent or acknowledged. Repair the mapping file, or name its batches in "
                "filter.batches; --accept-unknown skips this one"
            )

    def _is_filtered(self, entry: Entry) -> bool:
        return self._batches is not None and entry.batch_id not in self._batches

    def read_key(self, entry: Entry) -> str:
        """The key as text without blanks around it; "" for an entry without one. Raises UnreadableError."""
        value = read_field(entry, self._key.source)
        return to_text(value).strip() if isinstance(value, str | int | float) else ""

    def _try_one(self, entry: Entry) -> Record | Failure | str:
        try:
            return self._map_one(entry)
        except UnreadableError as error:
            return self._fail(entry, str(error))

    def _fail(self, entry: Entry, reason: str) -> Failure:
        return Failure(self._name(entry), entry.position, entry.batch_id, entry.recipient, reason, reason)

    def _name(self, entry: Entry) -> str:
        """What to call an entry whose record cannot be made."""
        with suppress(UnreadableError):
            if key := self.read_key(entry):
                return key
        return entry.recipient_id or f"position {entry.position}"

    def _map_one(self, entry: Entry) -> Record | Failure | str:
        """The record of an entry, or why there is none."""
        if self._is_filtered(entry):
            return "filtered"
        gone = self._gone.get(entry.state)
        if gone == {}:
            return entry.state
        if gone is None and self._only_final and not entry.is_final:
            return "not_final"
        key = self.read_key(entry)
        if not key:
            return self._explain_keyless(entry) if gone is None else entry.state
        properties = self._read_properties(entry) if gone is None else gone
        properties = {self._key.id_property: key, **properties}
        own = self._read_own(entry)
        return Record(key, properties, entry.position, entry.batch_id, entry.recipient, own)

    def _explain_keyless(self, entry: Entry) -> Failure | str:
        """A field may have no value yet, and then the entry comes again. A call parameter should have been there."""
        name = self._key.parameter
        if name is None or (self._accepts_keyless and name not in read_names(entry, "parameters")):
            return "without_key"
        return self._fail(entry, f"there is no {name!r} among the call parameters, or it is empty")

    def _read_own(self, entry: Entry) -> frozenset[str]:
        """The texts that tell who somebody is."""
        fields = [rule.field for rule in self._rules.values() if rule.field.startswith("parameters.")]
        texts = (read_field(entry, field) for field in ("phone", *fields))
        return frozenset(text for text in texts if isinstance(text, str) and len(text) > 1)

    def _read_properties(self, entry: Entry) -> dict[str, Any]:
        properties: dict[str, Any] = dict(self._constants)
        for name, rule in self._rules.items():
            value = self._convert(rule, read_field(entry, rule.field))
            if value is not None or rule.empty == "clear":
                properties[name] = value
        return properties

    def _convert(self, rule: Property, value: Any) -> Any:
        word = to_text(value)
        if word in rule.values:
            return rule.values[word]
        if value is None:
            return None
        if rule.default is not None:
            return rule.default
        return self._show_time(rule, value) if isinstance(value, datetime) else value

    def _show_time(self, rule: Property, value: datetime) -> str | int:
        if rule.format == "date":
            return value.astimezone(self._zone).date().isoformat()
        if rule.format == "epoch_ms":
            return round(value.timestamp() * 1000)
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_text(value: Any) -> str:
    """A value as a mapping file writes it: true, 12, null."""
    if isinstance(value, str):
        return value
    return NULL if value is None else msgspec.json.encode(value).decode()


def list_names(what: str, names: Iterable[str]) -> str:
    """Names for a message, cut off where there are many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN_NAMES} more" if len(ordered) > SHOWN_NAMES else ""
    return f"{what}: {', '.join(ordered[:SHOWN_NAMES]) or 'none'}{more}"

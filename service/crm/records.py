"""Maps entries of the feed to records of a CRM.

No recipient is left out silently: one without a key is a failure, and a batch without any key means that the mapping is
wrong.
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

MIN_KEYLESS = 10  # recipients with an empty key, and none with one, that show that the key is wrong
MAX_NAMES = 20


@dataclass(frozen=True)
class Record:
    """One record to upsert. ``position`` is that of its entry."""

    key: str
    properties: dict[str, Any]
    position: int
    batch_id: int | None
    recipient: int
    own: frozenset[str] = frozenset()
    """Personal values (the phone, the parameters) that, like the key, are never printed."""


@dataclass(frozen=True)
class Failure:
    """An outcome that is not in the CRM, and why; ``summary`` is the reason without the record's own data."""

    key: str
    position: int
    batch_id: int | None
    recipient: int
    reason: str
    summary: str = ""


@dataclass
class Mapped:
    """The last record of each key. ``skipped`` counts the other entries by reason."""

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
        """The records of entries in the feed's order. Only the latest entry of a key is sent: it is the current state,
        and no target accepts a key twice in a batch."""
        mapped, latest = Mapped(), dict[str, Record | Failure]()
        for entry in entries:
            try:
                item = self._map_one(entry)
            except UnreadableError as error:
                item = self._fail(entry, str(error))
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
        """Raises SyncError for a batch without a key: none of its recipients has the column, or many have it and all
        leave it empty. Recipients without any parameters are not counted."""
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
            if any(has_key for has_key, _ in seen) or (name in columns and len(seen) < MIN_KEYLESS):
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
        """The key as stripped text; "" for an entry without one. Raises UnreadableError."""
        value = read_field(entry, self._key.source)
        return to_word(value).strip() if isinstance(value, str | int | float) else ""

    def _fail(self, entry: Entry, reason: str) -> Failure:
        return Failure(self._name(entry), entry.position, entry.batch_id, entry.recipient, reason, reason)

    def _name(self, entry: Entry) -> str:
        """The name of an entry that cannot be mapped."""
        with suppress(UnreadableError):
            if key := self.read_key(entry):
                return key
        return entry.recipient_id or f"position {entry.position}"

    def _map_one(self, entry: Entry) -> Record | Failure | str:
        """The record of an entry, or the failure, or the reason for skipping it."""
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
        """Skips when a field has no value yet, since the entry comes again; a missing call parameter is a failure."""
        name = self._key.parameter
        if name is None or (self._accepts_keyless and name not in read_names(entry, "parameters")):
            return "without_key"
        return self._fail(entry, f"there is no {name!r} among the call parameters, or it is empty")

    def _read_own(self, entry: Entry) -> frozenset[str]:
        """The texts that identify a person."""
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
        word = to_word(value)
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


def to_word(value: Any) -> str:
    """A value as written in a mapping file: true, 12, null."""
    if isinstance(value, str):
        return value
    return NULL if value is None else msgspec.json.encode(value).decode()


def list_names(what: str, names: Iterable[str]) -> str:
    """At most ``MAX_NAMES`` names, for a message."""
    ordered = sorted(names)
    more = f" and {len(ordered) - MAX_NAMES} more" if len(ordered) > MAX_NAMES else ""
    return f"{what}: {', '.join(ordered[:MAX_NAMES]) or 'none'}{more}"

"""The mapping file: the target, the key, and the property for each field.

It is TOML, checked as a whole before anything is sent. An error names the key in the file, the allowed values and the
nearest one. ``deploy/crm`` has commented examples.
"""

import hashlib
import re
import tomllib
from datetime import tzinfo
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from service.crm.entries import NULL, WORDS, explain_field, suggest
from service.errors import ConfigurationError
from service.values import explain_unread, read_text_file

HUBSPOT_URL = "https://api.hubapi.com"
MAX_HUBSPOT_BATCH = 100
MAX_GENERIC_BATCH = 1000
CONSUMER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
KEY_FIELDS = ("phone", "recipient_id", "conversation_id")

Constant = str | int | float | bool
_Word = Annotated[str, msgspec.Meta(min_length=1)]


class HubSpot(msgspec.Struct, tag="hubspot", tag_field="kind", forbid_unknown_fields=True):
    """HubSpot's objects: ``object_type`` as in its addresses, such as contacts, deals or 2-1234567."""

    object_type: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+$")]
    url: str = HUBSPOT_URL
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_HUBSPOT_BATCH)] = MAX_HUBSPOT_BATCH


class Generic(msgspec.Struct, tag="generic", tag_field="kind", forbid_unknown_fields=True):
    """Any endpoint that accepts ``{"records": [...]}``."""

    url: str
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERIC_BATCH)] = MAX_HUBSPOT_BATCH


class Key(msgspec.Struct, forbid_unknown_fields=True):
    """What identifies a record: a call parameter or a field, and the unique property that holds it in the CRM."""

    id_property: _Word = msgspec.field(name="property")
    parameter: _Word | None = None
    field: _Word | None = None

    @property
    def source(self) -> str:
        """The field that holds the key."""
        return self.field or f"parameters.{self.parameter}"


class Property(msgspec.Struct, forbid_unknown_fields=True):
    """The source of a property's value, and its conversion."""

    field: _Word
    values: dict[str, Constant] = {}
    default: Constant | None = None  # for a value that ``values`` lacks
    empty: Literal["clear", "keep"] = "keep"  # when the field has no value: clear the property or leave it
    format: Literal["datetime", "date", "epoch_ms"] = "datetime"  # of times


class Filter(msgspec.Struct, forbid_unknown_fields=True):
    """The recipients to send."""

    batches: list[int] | None = None


class Gone(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent for erased or withdrawn recipients: ``properties``; by default nothing."""

    properties: dict[str, Constant] = {}


class Mapping(msgspec.Struct, forbid_unknown_fields=True):
    """A mapping file."""

    consumer: str
    target: HubSpot | Generic
    key: Key
    properties: dict[str, str | Property] = {}
    constants: dict[str, Constant] = {}
    only_final: bool = True
    time_zone: str = "UTC"  # of format = "date"
    filter: Filter = msgspec.field(default_factory=Filter)
    erased: Gone = msgspec.field(default_factory=Gone)
    withdrawn: Gone = msgspec.field(default_factory=Gone)  # its call counts for another recipient or none

    def rules(self) -> dict[str, Property]:
        """The properties, with the short form expanded."""
        return {
            name: Property(field=given) if isinstance(given, str) else given for name, given in self.properties.items()
        }

    def zone(self) -> tzinfo:
        """The time zone of dates."""
        return ZoneInfo(self.time_zone)

    def property_names(self) -> set[str]:
        """All properties that the job writes."""
        gone = (self.erased.properties, self.withdrawn.properties)
        return {self.key.id_property, *self.properties, *self.constants, *gone[0], *gone[1]}

    def digest(self) -> str:
        """Equal for two mappings that send the same values to the same place, however they are written."""
        content = msgspec.to_builtins(self)
        content |= {"properties": msgspec.to_builtins(self.rules()), "consumer": None}
        content["target"] |= {"batch_size": None}
        return f"sha256:{hashlib.sha256(msgspec.json.encode(content, order='sorted')).hexdigest()}"


_TABLES: dict[str, type[msgspec.Struct]] = {"key": Key, "filter": Filter, "erased": Gone, "withdrawn": Gone}
_TARGETS: dict[str, type[msgspec.Struct]] = {"hubspot": HubSpot, "generic": Generic}


def load_mapping(path: Path) -> Mapping:
    """The mapping in a file; raises ConfigurationError, naming file and key, when it is invalid."""
    try:
        content = tomllib.loads(read_text_file(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {explain_unread(error)}") from error
    return read_mapping(content, str(path))


def read_mapping(content: dict[str, Any], name: str) -> Mapping:
    """As ``load_mapping``, from the file's content."""
    try:
        _check_names(content)
        mapping = msgspec.convert(content, Mapping)
        _check(mapping)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{name}: {_name_place(str(error))}") from error
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    return mapping


def _check_names(content: dict[str, Any]) -> None:
    """Raises ValueError for an unknown key, with more detail than the decoder gives."""
    _check_table("", content, Mapping)
    target = content.get("target")
    if isinstance(target, dict):
        kind = target.get("kind")
        if kind not in _TARGETS:
            raise ValueError(
                f"target.kind takes one of {', '.join(_TARGETS)}, not {kind!r}{suggest(str(kind), _TARGETS)}"
            )
        _check_table("target.", {key: value for key, value in target.items() if key != "kind"}, _TARGETS[kind])
    for name, shape in _TABLES.items():
        _check_table(f"{name}.", content.get(name), shape)
    properties = content.get("properties")
    for name, given in properties.items() if isinstance(properties, dict) else ():
        _check_table(f"properties.{name}.", given, Property)
        if isinstance(given, dict):
            _check_values(f"properties.{name}.values", given.get("values"), Constant)
    _check_values("properties", properties, str | Property)
    _check_values("constants", content.get("constants"), Constant)
    for name in ("erased", "withdrawn"):
        if isinstance(gone := content.get(name), dict):
            _check_values(f"{name}.properties", gone.get("properties"), Constant)


def _check_table(place: str, given: Any, shape: type[msgspec.Struct]) -> None:
    known = shape.__struct_encode_fields__
    for name in given if isinstance(given, dict) else ():
        if name not in known:
            nearest = suggest(name, known)
            raise ValueError(f"{place}{name} is not a key of a mapping file{nearest}; allowed here: {', '.join(known)}")


def _check_values(place: str, given: Any, shape: Any) -> None:
    """Raises ValueError that names the key, which the decoder abbreviates as `...`."""
    for name, value in given.items() if isinstance(given, dict) else ():
        try:
            msgspec.convert(value, shape)
        except msgspec.ValidationError as error:
            message, _, inside = str(error).partition(" - at `$.")
            raise ValueError(f"{place}.{name}{'.' * bool(inside)}{inside.rstrip('`')}: {message}") from error


def _check(mapping: Mapping) -> None:
    """Raises ValueError for what the types do not check."""
    if not CONSUMER_NAME.fullmatch(mapping.consumer):
        raise ValueError(
            "consumer takes 1 to 63 letters, digits, points, dashes and underscores, a letter or digit first"
        )
    _check_url(mapping.target.url)
    if (mapping.key.parameter is None) == (mapping.key.field is None):
        raise ValueError("key takes either parameter (of a call, such as loan_id) or field")
    if mapping.key.field is not None and mapping.key.field not in KEY_FIELDS:
        raise ValueError(f"key.field takes one of {', '.join(KEY_FIELDS)}, not {mapping.key.field!r}")
    if not mapping.properties:
        raise ValueError('properties is empty: say which field goes to which property, such as call_status = "status"')
    for name, rule in mapping.rules().items():
        _check_rule(f"properties.{name}", rule)
    gone = (*mapping.erased.properties, *mapping.withdrawn.properties)
    for name in (*mapping.properties, *mapping.constants, *gone):
        if not name:
            raise ValueError("a property has no name")
        if name == mapping.key.id_property:
            raise ValueError(f"{name} is the key's property, which is always sent: remove it elsewhere")
    if twice := mapping.properties.keys() & mapping.constants.keys():
        raise ValueError(f"constants.{min(twice)} is set under properties too: keep only one")
    try:
        mapping.zone()
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"time_zone takes a time zone such as Asia/Kolkata, not {mapping.time_zone!r}") from error


def _check_rule(place: str, rule: Property) -> None:
    if wrong := explain_field(rule.field):
        raise ValueError(f"{place}: {wrong}")
    words = WORDS.get(rule.field)
    for value in rule.values:
        if words and value not in (*words, NULL):
            raise ValueError(
                f"{place}.values.{value}: {rule.field} has no such value{suggest(value, words)}; "
                f"there are {', '.join(words)} and {NULL}"
            )
    if rule.default is not None and not rule.values:
        raise ValueError(f"{place}.default needs values: it applies to values missing there")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"target.url cannot be read: {error}") from error
    if parts.scheme not in {"https", "http"} or not host:
        raise ValueError(f"target.url takes an address such as {HUBSPOT_URL}, not {url!r}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError(
            "target.url takes https:// (http:// only to this machine): the token must not be sent in clear text"
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("target.url takes no user, password or fragment: the token comes from OUTCOMES_CRM_TOKEN")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _name_place(message: str) -> str:
    """The decoder's message with the key as written in the file, instead of a path."""
    problem, found, place = message.partition(" - at `$.")
    return f"{place.rstrip('`')}: {problem}" if found else problem

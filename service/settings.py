"""Settings. Only this module reads them from the environment.

Every setting that holds a secret can also be given as ``NAME_FILE``, a path to a file that holds it. ``service.values``
cleans both the same way. An invalid value stops the service at startup, with a message that names the setting and what
it takes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from phonenumbers import SUPPORTED_REGIONS

from service.errors import ConfigurationError
from service.spelling import find_near
from service.values import clean, clean_key, clean_secret, explain_unread, read_text_file

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9 ._-]{0,63}")

PROVIDER_URL = "https://api.voice.formantai.com"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The checked settings of the service. ``repr`` omits secrets."""

    database_url: str
    data_dir: Path
    allow_unsafe_database: bool
    migrate_on_start: bool
    spill_url: str
    allow_unsafe_spill: bool
    host: str
    port: int
    api_key: str
    formant_base_url: str
    formant_api_key: str
    webhook_secrets: tuple[str, ...]
    allow_unsigned: bool
    targets_file: Path | None
    ref_column: str
    default_region: str
    max_body_bytes: int
    max_connections: int
    grace_seconds: int
    stuck_seconds: int
    reconcile_seconds: int
    time_zone: str
    max_exports: int
    export_seconds: int
    bi_password: str
    log_level: str
    traces: bool
    public_url: str
    runbook_url: str
    session_idle_seconds: int
    session_seconds: int
    oidc_issuer: str
    oidc_client_id: str
    oidc_client_secret: str
    oidc_scopes: str
    oidc_groups_claim: str
    oidc_group_scopes: Mapping[str, tuple[str, ...]]
    keep_days: Mapping[str, int]

    def __repr__(self) -> str:
        return f"Settings(host={self.host!r}, port={self.port}, data_dir={self.data_dir!r})"


NAMES = {
    "OUTCOMES_DATABASE_URL": "Postgres 15 or newer; may name several hosts. Empty: an embedded Postgres 18",
    "OUTCOMES_DATA_DIR": "Where the embedded Postgres keeps its data",
    "OUTCOMES_ALLOW_UNSAFE_DATABASE": "1: start even if the database may lose acknowledged events",
    "OUTCOMES_MIGRATE_ON_START": "0: refuse a schema that is behind; `outcomes migrate` updates it",
    "OUTCOMES_SPILL_URL": "NATS servers, separated by commas, that keep webhooks while Postgres is away, such as "
    "nats://user:password@host:4222. Empty: webhooks are refused then",
    "OUTCOMES_ALLOW_UNSAFE_SPILL": "1: use these servers even if they may lose acknowledged events",
    "OUTCOMES_HOST": "Address to listen on",
    "OUTCOMES_PORT": "Port to listen on; 0: any free port",
    "OUTCOMES_API_KEY": "An API key with every scope. Empty: only keys made by `outcomes keys` work",
    "FORMANT_BASE_URL": "The provider's API",
    "FORMANT_API_KEY": "Our key for the provider's API. Empty: no uploads and no reconciliation",
    "FORMANT_WEBHOOK_SECRET": "Secrets that sign webhooks, separated by commas; each is accepted. "
    "Empty: the service refuses to start",
    "OUTCOMES_ALLOW_UNSIGNED": "1: accept unsigned webhooks while no secret is set; for trials only",
    "OUTCOMES_TARGETS_FILE": "TOML file with more webhook targets, and rules by which calls suppress people",
    "OUTCOMES_REF_COLUMN": "Name of the column that an upload adds. Empty: add none",
    "OUTCOMES_DEFAULT_REGION": "Country of phone numbers without a country code, such as IN. "
    "Empty: files with such numbers are refused",
    "OUTCOMES_MAX_BODY_BYTES": "Maximum size of a webhook body",
    "OUTCOMES_MAX_CONNECTIONS": "Maximum number of open connections in each process",
    "OUTCOMES_GRACE_SECONDS": "How long figures may differ from the provider's before the batch is `drifted`",
    "OUTCOMES_STUCK_SECONDS": "How long a batch may stand still before the alarm `batch_stuck`; 0: no alarm",
    "OUTCOMES_RECONCILE_SECONDS": "Shortest interval between two comparisons of a batch; 0: only on demand",
    "OUTCOMES_TIME_ZONE": "Time zone of hours, weekdays and days unless a request names one, such as Asia/Kolkata",
    "OUTCOMES_MAX_EXPORTS": "Maximum number of exports at a time in each process",
    "OUTCOMES_EXPORT_SECONDS": "Longest time that one export may take: it holds a snapshot of the database",
    "OUTCOMES_BI_PASSWORD": "Password that `outcomes bi role` sets. Empty: it stays as it is",
    "OUTCOMES_LOG_LEVEL": "debug, info, warning or error",
    "OUTCOMES_TRACES": "1: send OpenTelemetry traces, as the `OTEL_…` variables say",
    "OUTCOMES_PUBLIC_URL": "Where people reach the service, such as https://outcomes.example.com",
    "OUTCOMES_RUNBOOK_URL": "Where people read the runbook: alarms and alerts link to its entries, as URL#NAME. "
    "Empty: no links",
    "OUTCOMES_SESSION_IDLE_SECONDS": "How long a session of the console lasts without use",
    "OUTCOMES_SESSION_SECONDS": "How long a session of the console lasts at most",
    "OUTCOMES_OIDC_ISSUER": "The OpenID provider that signs people in, exactly as it calls itself. Empty: only keys do",
    "OUTCOMES_OIDC_CLIENT_ID": "The service's client id there",
    "OUTCOMES_OIDC_CLIENT_SECRET": "The service's client secret there",
    "OUTCOMES_OIDC_SCOPES": "What is asked of the provider, separated by spaces",
    "OUTCOMES_OIDC_GROUPS_CLAIM": "The claim with a person's groups; `realm_access.roles` is a claim in a claim",
    "OUTCOMES_OIDC_GROUP_SCOPES": "What each group may do, such as analysts=read;ops=read,upload,feed,admin",
    "OUTCOMES_KEEP_BODIES_DAYS": "Days to keep raw webhook bodies, with transcripts and recording URLs; 0: forever",
    "OUTCOMES_KEEP_PEOPLE_DAYS": "Days to keep phones and call parameters after a batch's last event; 0: forever",
    "OUTCOMES_KEEP_QUARANTINE_DAYS": "Days to keep quarantined bodies, replayed or not; 0: forever",
    "OUTCOMES_KEEP_AUDIT_DAYS": "Days to keep the audit log; 0: forever",
    "OUTCOMES_KEEP_SNAPSHOTS_DAYS": "Days to keep the provider's past figures (each batch's latest stay); 0: forever",
}
KEPT = ("bodies", "people", "quarantine", "audit", "snapshots")
"""The kinds of data with a retention setting."""
SECRETS = {
    "OUTCOMES_DATABASE_URL",
    "OUTCOMES_SPILL_URL",
    "OUTCOMES_API_KEY",
    "FORMANT_API_KEY",
    "FORMANT_WEBHOOK_SECRET",
    "OUTCOMES_BI_PASSWORD",
    "OUTCOMES_OIDC_CLIENT_SECRET",
}


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """The checked settings of ``outcomes crm-sync``, a client of the service. The service itself needs none of them."""

    url: str
    feed_key: str
    crm_token: str
    log_level: str

    def __repr__(self) -> str:
        return f"SyncSettings(url={self.url!r})"


SYNC_NAMES = {
    "OUTCOMES_URL": "Where the service answers",
    "OUTCOMES_FEED_KEY": "A key of the service with the scope `feed`",
    "OUTCOMES_CRM_TOKEN": "The CRM's bearer token. Empty: only `--dry-run` works",
}
SYNC_SECRETS = {"OUTCOMES_FEED_KEY", "OUTCOMES_CRM_TOKEN"}
KEYS = {"OUTCOMES_API_KEY", "FORMANT_API_KEY", "OUTCOMES_FEED_KEY", "OUTCOMES_CRM_TOKEN"}
"""Secrets that are sent in a header."""
TEXTS = {"OUTCOMES_DATABASE_URL"}
"""Secrets that may mix ASCII with words of other scripts."""
LOG_LEVELS = ("debug", "info", "warning", "error")


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``; raises ConfigurationError for a value that cannot be used."""
    name = "FORMANT_WEBHOOK_SECRET"
    secrets = tuple(clean_secret(name, part) for part in _text(environ, name).split(",") if part.strip())
    targets = _text(environ, "OUTCOMES_TARGETS_FILE")
    return Settings(
        database_url=_text(environ, "OUTCOMES_DATABASE_URL"),
        data_dir=Path(_text(environ, "OUTCOMES_DATA_DIR", ".data")),
        allow_unsafe_database=_flag(environ, "OUTCOMES_ALLOW_UNSAFE_DATABASE"),
        migrate_on_start=_flag(environ, "OUTCOMES_MIGRATE_ON_START", default="1"),
        spill_url=_servers(environ, "OUTCOMES_SPILL_URL"),
        allow_unsafe_spill=_flag(environ, "OUTCOMES_ALLOW_UNSAFE_SPILL"),
        host=_text(environ, "OUTCOMES_HOST", "127.0.0.1"),
        port=_number(environ, "OUTCOMES_PORT", 8080, minimum=0, maximum=65535),
        api_key=_text(environ, "OUTCOMES_API_KEY"),
        formant_base_url=_url(environ, "FORMANT_BASE_URL", PROVIDER_URL),
        formant_api_key=_text(environ, "FORMANT_API_KEY"),
        webhook_secrets=secrets,
        allow_unsigned=_flag(environ, "OUTCOMES_ALLOW_UNSIGNED"),
        targets_file=Path(targets) if targets else None,
        ref_column=_column(environ, "OUTCOMES_REF_COLUMN", "outcome_ref"),
        default_region=_region(environ, "OUTCOMES_DEFAULT_REGION"),
        max_body_bytes=_number(environ, "OUTCOMES_MAX_BODY_BYTES", 5_242_880, minimum=1024, maximum=2**28),
        max_connections=_number(environ, "OUTCOMES_MAX_CONNECTIONS", 2000, minimum=1, maximum=1_000_000),
        grace_seconds=_number(environ, "OUTCOMES_GRACE_SECONDS", 900, minimum=0, maximum=7 * 86_400),
        stuck_seconds=_number(environ, "OUTCOMES_STUCK_SECONDS", 21_600, minimum=0, maximum=30 * 86_400),
        reconcile_seconds=_number(environ, "OUTCOMES_RECONCILE_SECONDS", 30, minimum=0, maximum=86_400),
        time_zone=_time_zone(environ, "OUTCOMES_TIME_ZONE", "UTC"),
        keep_days={kind: _days(environ, f"OUTCOMES_KEEP_{kind.upper()}_DAYS") for kind in KEPT},
        max_exports=_number(environ, "OUTCOMES_MAX_EXPORTS", 4, minimum=1, maximum=100),
        export_seconds=_number(environ, "OUTCOMES_EXPORT_SECONDS", 3600, minimum=1, maximum=86_400),
        bi_password=_text(environ, "OUTCOMES_BI_PASSWORD"),
        log_level=_choice(environ, "OUTCOMES_LOG_LEVEL", "info", LOG_LEVELS),
        traces=_flag(environ, "OUTCOMES_TRACES"),
        public_url=_origin(environ, "OUTCOMES_PUBLIC_URL"),
        runbook_url=_page(environ, "OUTCOMES_RUNBOOK_URL"),
        session_idle_seconds=_number(environ, "OUTCOMES_SESSION_IDLE_SECONDS", 28_800, minimum=300, maximum=604_800),
        session_seconds=_number(environ, "OUTCOMES_SESSION_SECONDS", 86_400, minimum=900, maximum=30 * 86_400),
        oidc_issuer=_issuer(environ, "OUTCOMES_OIDC_ISSUER"),
        oidc_client_id=_text(environ, "OUTCOMES_OIDC_CLIENT_ID"),
        oidc_client_secret=_text(environ, "OUTCOMES_OIDC_CLIENT_SECRET"),
        oidc_scopes=_oidc_scopes(environ, "OUTCOMES_OIDC_SCOPES", "openid profile email"),
        oidc_groups_claim=_text(environ, "OUTCOMES_OIDC_GROUPS_CLAIM", "groups"),
        oidc_group_scopes=_group_scopes(environ, "OUTCOMES_OIDC_GROUP_SCOPES"),
    )


def read_sync_settings(environ: Mapping[str, str]) -> SyncSettings:
    """The settings of ``outcomes crm-sync``; raises ConfigurationError for a value that cannot be used."""
    return SyncSettings(
        url=_url(environ, "OUTCOMES_URL", "http://127.0.0.1:8080"),
        feed_key=_text(environ, "OUTCOMES_FEED_KEY"),
        crm_token=_text(environ, "OUTCOMES_CRM_TOKEN"),
        log_level=_choice(environ, "OUTCOMES_LOG_LEVEL", "info", LOG_LEVELS),
    )


def find_unknown_names(environ: Mapping[str, str]) -> dict[str, str]:
    """Names with our prefixes that are not settings, each with the nearest setting, or "".

    Worth a warning, not an error: a cluster may set variables with our prefixes for its own reasons.
    """
    known = NAMES.keys() | SYNC_NAMES.keys() | {f"{name}_FILE" for name in SECRETS | SYNC_SECRETS}
    unknown = [name for name in environ if name.startswith(("OUTCOMES_", "FORMANT_")) and name not in known]
    return {name: find_near(name, known) or "" for name in sorted(unknown)}


def _text(environ: Mapping[str, str], name: str, default: str = "", *, empty_is_value: bool = False) -> str:
    path = clean(f"{name}_FILE", environ.get(f"{name}_FILE", "")) if name in SECRETS | SYNC_SECRETS else ""
    if path:
        return _read_file(environ, name, Path(path))
    if name not in environ:
        return default
    value = _clean(name, name, environ[name])
    return value if value or empty_is_value else default


def _read_file(environ: Mapping[str, str], name: str, path: Path) -> str:
    if environ.get(name):
        raise ConfigurationError(f"{name} and {name}_FILE are both set: keep one of them")
    try:
        value = _clean(name, f"{name}_FILE", read_text_file(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{name}_FILE: {path} cannot be read ({explain_unread(error)}): name a text file that this user may read"
        ) from error
    if not value:
        raise ConfigurationError(f"{name}_FILE: {path} is empty: write the value into it, or unset {name}_FILE")
    return value


def _clean(name: str, given_as: str, text: str) -> str:
    if name in KEYS:
        return clean_key(given_as, text)
    is_secret = name in (SECRETS | SYNC_SECRETS) - TEXTS
    return clean_secret(given_as, text) if is_secret else clean(given_as, text)


def _flag(environ: Mapping[str, str], name: str, *, default: str = "0") -> bool:
    value = _text(environ, name, default)
    if value not in {"0", "1"}:
        raise ConfigurationError(f"{name} takes 0 or 1, not {value!r}")
    return value == "1"


def _number(environ: Mapping[str, str], name: str, default: int, *, minimum: int, maximum: int) -> int:
    value = _text(environ, name, str(default))
    if not (value.isdecimal() and len(value) <= 18) or not minimum <= int(value) <= maximum:
        raise ConfigurationError(f"{name} takes a whole number from {minimum} to {maximum}, not {value!r}")
    return int(value)


def _days(environ: Mapping[str, str], name: str) -> int:
    return _number(environ, name, 0, minimum=0, maximum=36_500)


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = _text(environ, name, default).lower()
    if value not in choices:
        raise ConfigurationError(f"{name} takes one of {', '.join(choices)}, not {value!r}")
    return value


def _url(environ: Mapping[str, str], name: str, default: str) -> str:
    value = _text(environ, name, default).rstrip("/")
    if not value.startswith(("https://", "http://")):
        raise ConfigurationError(f"{name} takes an address that begins with https:// or http://, not {value!r}")
    return value


def _servers(environ: Mapping[str, str], name: str) -> str:
    """Addresses of NATS servers, separated by commas; or ""."""
    servers = [part.strip() for part in _text(environ, name).split(",") if part.strip()]
    for server in servers:
        parts = urlsplit(server)
        if parts.scheme not in {"nats", "tls"} or not parts.hostname:
            raise ConfigurationError(f"{name} takes addresses that begin with nats:// or tls://, separated by commas")
    return ",".join(servers)


def _origin(environ: Mapping[str, str], name: str) -> str:
    """An address without a path, or ""."""
    value = _text(environ, name)
    parts = urlsplit(value)
    if value and (parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None
                  or value.rstrip("/") != f"{parts.scheme}://{parts.netloc}"):  # fmt: skip
        raise ConfigurationError(
            f"{name} takes an address without a path, such as https://outcomes.example.com, not {value!r}"
        )
    return value.rstrip("/")


def _page(environ: Mapping[str, str], name: str) -> str:
    """The address of a page, without the part after #; or ""."""
    value = _text(environ, name)
    if value and (not value.startswith(("https://", "http://")) or "#" in value):
        raise ConfigurationError(f"{name} takes the address of a page, https://… without #, not {value!r}")
    return value


def _issuer(environ: Mapping[str, str], name: str) -> str:
    """An OpenID provider's address, with TLS unless it is on this machine; or ""."""
    value = _text(environ, name)
    parts = urlsplit(value)
    is_local = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if value and not (parts.hostname and (parts.scheme == "https" or is_local)):
        raise ConfigurationError(f"{name} takes an address that begins with https://, not {value!r}")
    return value


def _oidc_scopes(environ: Mapping[str, str], name: str, default: str) -> str:
    value = _text(environ, name, default)
    if "openid" not in value.split():
        raise ConfigurationError(f"{name} takes words separated by spaces, of which one is openid, not {value!r}")
    return value


def _group_scopes(environ: Mapping[str, str], name: str) -> dict[str, tuple[str, ...]]:
    """The scopes of each group. A group's name may contain ``=`` and ``,``, as that of a directory does."""
    groups: dict[str, tuple[str, ...]] = {}
    for part in filter(None, map(str.strip, _text(environ, name).split(";"))):
        group, equals, scopes = (text.strip() for text in part.rpartition("="))
        names = tuple(scope.strip() for scope in scopes.split(","))
        if not equals or not group or not all(names) or group in groups:
            raise ConfigurationError(
                f"{name} takes each group once, with its scopes, such as analysts=read;ops=read,admin: see {part!r}"
            )
        groups[group] = names
    return groups


def _column(environ: Mapping[str, str], name: str, default: str) -> str:
    """A column's name that is the same in a CSV header, as a JSON key and in the provider's prompts; or none."""
    value = _text(environ, name, default, empty_is_value=True)
    if value and not _COLUMN.fullmatch(value):
        raise ConfigurationError(
            f"{name} takes a name of at most 64 letters (a to z), digits, spaces and . _ - that begins with a letter "
            f"or _, or nothing, not {value!r}"
        )
    if "".join(filter(str.isalnum, value.casefold())) == "customerphone":
        raise ConfigurationError(
            f"{name} takes a name other than {value!r}: that is the column of the phones, which the provider calls"
        )
    return value


def _time_zone(environ: Mapping[str, str], name: str, default: str) -> str:
    value = _text(environ, name, default)
    try:
        return ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(f"{name} takes a time zone such as Asia/Kolkata, not {value!r}") from error


def _region(environ: Mapping[str, str], name: str) -> str:
    value = _text(environ, name).upper()
    if value and value not in SUPPORTED_REGIONS:
        meant = "; the United Kingdom is GB" if value == "UK" else ""
        raise ConfigurationError(f"{name} takes a country's two letters such as IN, or nothing, not {value!r}{meant}")
    return value

"""``OUTCOMES_DATABASE_URL`` as psql takes it: each of libpq's parameters is used, ignored with a log line, or refused.

The driver sends unknown parameters to Postgres as settings, which Postgres then refuses. The tables here decide
instead. A parameter is ignored only if that weakens nothing; one that asks for protection that the driver cannot give
is refused. No message quotes a value, because the URL contains a password. Also the settings of every session.
"""

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from service.errors import ConfigurationError
from service.spelling import find_near

SESSION = {
    "TimeZone": "UTC",
    # Where functions and queries find tables.
    "search_path": "public, pg_temp",
    # How statements read and change data.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    "transform_null_equals": "off",
    "exit_on_error": "off",
    "gin_fuzzy_search_limit": "0",
    # The service has its own time limits, and retries.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A commit that a standby may lack causes a warning (webhooks/writer.py).
    "client_min_messages": "notice",
    # How values are read and written as text.
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "quote_all_identifiers": "off",
    "timezone_abbreviations": "Default",
}
"""Settings of every session, whatever ALTER SYSTEM, DATABASE or ROLE say. Sent when a connection opens, so that RESET
ALL restores them. Only names that Postgres 15 knows and any role may set. ``client_encoding`` is the driver's: UTF8."""
CHECKED = {
    "session_replication_role": ("origin", "triggers and foreign keys do not run"),
}
"""Settings that only a superuser may send, with their harm otherwise: checked when the service starts."""

NAME = "OUTCOMES_DATABASE_URL"
CONNECT_SECONDS = 5.0
TLS_VERSIONS = frozenset({"", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
NO_LIMIT = "the service has time limits of its own"
ENCODED = ", with %3F, %26, %40 and %23 for ?, &, @ and # in a password"
IDENTIFIER = re.compile(r"[A-Za-z_]{2,40}")
WRITES = "the service connects to the host that takes writes"

DRIVER: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("host", "port", "dbname", "database", "user", "password", "passfile", "service", "sslcert", "sslkey",
         "sslrootcert", "sslcrl", "sslpassword", "krbsrvname"), frozenset()
    ),
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "ssl_min_protocol_version": TLS_VERSIONS,
    "ssl_max_protocol_version": TLS_VERSIONS,
    "gsslib": frozenset({"gssapi", "sspi"}),
    "options": frozenset(),
}  # fmt: skip
"""Parameters that the driver or Postgres takes, with their values if these are few."""
IGNORED = {
    "application_name": "sessions are named outcomes, which operators and `outcomes doctor` count by",
    "fallback_application_name": "sessions are named outcomes, which operators and `outcomes doctor` count by",
    "client_encoding": "the service speaks UTF8",
    "keepalives": NO_LIMIT,
    "keepalives_idle": NO_LIMIT,
    "keepalives_interval": NO_LIMIT,
    "keepalives_count": NO_LIMIT,
    "tcp_user_timeout": NO_LIMIT,
    "load_balance_hosts": WRITES,
    "target_session_attrs": WRITES,
    "gssdelegation": "no credentials are delegated",
    "sslcompression": "TLS is never compressed",
    "sslsni": "the host's name is always sent",
    "sslkeylogfile": "no TLS keys are written",
    "max_protocol_version": "the driver speaks version 3.0",
}
"""Parameters that add no safety, and why the service ignores them."""
REFUSED: dict[str, tuple[frozenset[str], str, str]] = {
    "channel_binding": (
        frozenset({"", "disable", "prefer"}), "PGCHANNELBINDING",
        "sslmode=verify-full proves that the server is yours; take channel_binding out, or set it to prefer",
    ),
    "require_auth": (
        frozenset({""}), "PGREQUIREAUTH",
        "sslmode=verify-full keeps the password from others; allow only that method in pg_hba.conf, and take it out",
    ),
    "gssencmode": (
        frozenset({"", "disable", "prefer"}), "PGGSSENCMODE", "encrypt with sslmode=verify-full, and take it out",
    ),
    "sslcertmode": (
        frozenset({"", "allow"}), "PGSSLCERTMODE", "name sslcert and sslkey, or neither, and take it out",
    ),
    "sslcrldir": (frozenset({""}), "PGSSLCRLDIR", "put the lists into one file, and name it with sslcrl"),
    "requirepeer": (
        frozenset({""}), "PGREQUIREPEER", "let only that user write to the socket's folder, and take it out",
    ),
    "min_protocol_version": (
        frozenset({"", "3.0"}), "PGMINPROTOCOLVERSION", "the driver speaks version 3.0: take it out",
    ),
    "replication": (
        frozenset({"", "false", "off", "no", "0"}), "", "the service is no replica: take it out",
    ),
    "hostaddr": (frozenset({""}), "PGHOSTADDR", "write the address as the host"),
    "servicefile": (frozenset({""}), "", "name the file in PGSERVICEFILE"),
    **dict.fromkeys(
        ("scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id", "oauth_client_secret",
         "oauth_scope"), (frozenset({""}), "", "sign in with a password or a certificate"),
    ),
}  # fmt: skip
"""Parameters that the driver cannot honour: their harmless values, environment variable and remedy."""
REWRITTEN = ("connect_timeout", "requiressl", "ssl")
KNOWN = (*DRIVER, *IGNORED, *REFUSED, *REWRITTEN)
OPTION = re.compile(r"(?:^|\s)(?:-c\s*|--)([A-Za-z_][\w.-]*)\s*=")


class Address(NamedTuple):
    """What the driver gets."""

    url: str
    hosts: tuple[str, ...]
    """The address of each host by itself."""
    connect_seconds: float
    ignored: dict[str, str]
    """Ignored parameters, and why."""


def read_database_url(url: str, environ: Mapping[str, str] = os.environ) -> Address:
    """The address in ``url`` for the driver; raises ConfigurationError, with the remedy, for what cannot be used."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(f"{NAME} cannot be read: it takes postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    base, _, query = url.replace("#", "%23").partition("?")
    given = _read_parameters(query)
    for name, (harmless, variable, remedy) in REFUSED.items():
        if given.get(name, "") not in harmless:
            raise ConfigurationError(f"{NAME}: the driver cannot honour {name} as it is set: {remedy}")
        if name not in given and environ.get(variable, "") not in harmless:
            raise ConfigurationError(f"{variable}: the driver cannot honour it as it is set: {remedy}")
    kept = {name: value for name, value in given.items() if name in DRIVER and value}
    if given.get("ssl") == "true" or given.get("requiressl") == "1":
        kept.setdefault("sslmode", "require")
    _use_system_certificates(kept)
    _check_values(kept)
    _check_files(kept, environ)
    return Address(
        _join(base, kept),
        tuple(_split_hosts(base, kept)),
        _read_seconds(given.get("connect_timeout", "")),
        _list_ignored(given),
    )


def _join(base: str, kept: Mapping[str, str]) -> str:
    parameters = "&".join(f"{name}={quote(value, safe='/:,')}" for name, value in kept.items())
    return f"{base}?{parameters}" if parameters else base


def _split_hosts(base: str, kept: Mapping[str, str]) -> Iterator[str]:
    """One address for each host: of those before the path or, without any, of the parameter ``host``."""
    scheme, _, rest = base.partition("://")
    netloc, slash, path = rest.partition("/")
    user, at, hosts = netloc.rpartition("@")
    ports = kept.get("port", "").split(",")
    for place, host in enumerate((hosts or kept.get("host", "")).split(",")):
        own = {"host": host} if host and not hosts else {}
        own |= {"port": ports[place]} if len(ports) > 1 and place < len(ports) else {}
        yield _join(f"{scheme}://{user}{at}{host if hosts else ''}{slash}{path}", {**kept, **own})


def _read_parameters(query: str) -> dict[str, str]:
    """Like libpq: a plus is a plus, and the last of a repeated name counts."""
    given = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigurationError(f"{NAME} cannot be read after its ?: it takes NAME=VALUE, joined by &{ENCODED}")
        given[unquote(name)] = unquote(value)
    for name in given:
        if name not in KNOWN:
            raise ConfigurationError(_explain_unknown(name, is_quotable="@" not in query and "password" not in given))
    return given


def _explain_unknown(name: str, *, is_quotable: bool) -> str:
    """Does not quote a name that may be part of an unencoded password."""
    if not is_quotable or not IDENTIFIER.fullmatch(name):
        return f"{NAME} has an unknown parameter after its ?: compare them with those of psql{ENCODED}"
    nearest = find_near(name, KNOWN)
    meant = f"did you mean {nearest}? " if nearest else ""
    return f"{NAME} has the unknown parameter {name}: {meant}A setting of Postgres goes into options=-c%20NAME=VALUE"


def _use_system_certificates(kept: dict[str, str]) -> None:
    """``sslrootcert=system``: the authorities that this machine trusts, always with verification of the name."""
    if kept.get("sslrootcert") != "system":
        return
    if kept.setdefault("sslmode", "verify-full") != "verify-full":
        raise ConfigurationError(f"{NAME}: sslrootcert=system takes sslmode=verify-full")
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is None:
        raise ConfigurationError(f"{NAME}: this machine has no file for sslrootcert=system: name the file")
    kept["sslrootcert"] = authorities


def _check_values(kept: Mapping[str, str]) -> None:
    for name, values in DRIVER.items():
        if values and kept.get(name, next(iter(values))) not in values:
            raise ConfigurationError(f"{NAME}: {name} takes one of {', '.join(sorted(values - {''}))}")
    if not all(port.isascii() and port.isdecimal() for port in kept.get("port", "1").split(",")):
        raise ConfigurationError(f"{NAME}: port takes a number, or one for each host, separated by commas")
    if kept.get("sslnegotiation") == "direct" and kept.get("sslmode") not in {"require", "verify-ca", "verify-full"}:
        raise ConfigurationError(f"{NAME}: sslnegotiation=direct takes sslmode=require, verify-ca or verify-full")


def _check_files(kept: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Reads the TLS files, so that an error names the bad one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    uses: dict[str, Callable[[str], None]] = {
        "sslrootcert": context.load_verify_locations,
        "sslcrl": context.load_verify_locations,
        "sslcert": lambda path: context.load_cert_chain(path, kept.get("sslkey"), lambda: kept.get("sslpassword", "")),
    }
    for name, use in uses.items():
        try:
            if name in kept:
                use(kept[name])
        except OSError as error:
            raise ConfigurationError(
                f"{NAME}: the file of {name} cannot be used: it is missing, unreadable, or of another kind"
            ) from error
    if (
        kept.get("sslmode", "").startswith("verify-")
        and not (kept.get("sslrootcert") or environ.get("PGSSLROOTCERT"))
        and not (Path.home() / ".postgresql" / "root.crt").exists()
    ):
        raise ConfigurationError(f"{NAME}: sslmode={kept['sslmode']} takes sslrootcert=FILE, or sslrootcert=system")


def _read_seconds(value: str) -> float:
    """The time limit of connecting. Without one, and for libpq's 0 (no limit), it is ``CONNECT_SECONDS``."""
    try:
        seconds = int(value or "0")
    except ValueError as error:
        raise ConfigurationError(f"{NAME}: connect_timeout takes a whole number of seconds") from error
    return float(min(seconds, 3600)) if seconds > 0 else CONNECT_SECONDS


def _list_ignored(given: Mapping[str, str]) -> dict[str, str]:
    ignored = {name: why for name, why in IGNORED.items() if given.get(name)}
    if given.get("target_session_attrs") in {"any", "read-write", "primary"}:
        del ignored["target_session_attrs"]
    pinned = {name.lower() for name in SESSION}
    for option in OPTION.findall(given.get("options", "")):
        if option.lower().replace("-", "_") in pinned:
            ignored[f"options {option}"] = "the service sets it itself"
    return ignored

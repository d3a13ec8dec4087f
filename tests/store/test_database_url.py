"""OUTCOMES_DATABASE_URL takes what psql takes: each parameter of libpq is used, ignored by name, or refused."""

import ctypes
import ctypes.util
import itertools
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from service.errors import ConfigurationError
from service.store.database_url import CONNECT_SECONDS, KNOWN, read_database_url

BASE = "postgresql://bob:pass-word@127.0.0.1:5432/x"
LIBPQ = (
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "require_auth", "channel_binding",
    "connect_timeout", "client_encoding", "options", "application_name", "fallback_application_name", "keepalives",
    "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "replication", "gssencmode",
    "sslmode", "requiressl", "sslnegotiation", "sslcompression", "sslcert", "sslkey", "sslkeylogfile", "sslpassword",
    "sslcertmode", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "min_protocol_version", "max_protocol_version", "krbsrvname", "gsslib",
    "gssdelegation", "scram_client_key", "scram_server_key", "service", "servicefile", "target_session_attrs",
    "load_balance_hosts", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
)  # fmt: skip
"""As the documentation of Postgres 18 lists them, and a few of earlier ones."""


class Option(ctypes.Structure):
    """libpq's PQconninfoOption."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    )


def read(query: str, **environ: str) -> dict[str, str]:
    """What the driver is given."""
    given = parse_qs(urlsplit(read_database_url(f"{BASE}?{query}", environ).url).query, strict_parsing=bool(query))
    return {name: value for name, (value,) in given.items()}


def test_every_parameter_of_libpq_is_known() -> None:
    assert [name for name in LIBPQ if name not in KNOWN] == []


def test_every_parameter_of_this_machines_libpq_is_known() -> None:
    path = ctypes.util.find_library("pq")
    if path is None:
        pytest.skip("there is no libpq here")
    library = ctypes.CDLL(path)
    library.PQconndefaults.restype = ctypes.POINTER(Option)
    options = library.PQconndefaults()
    names = [option.keyword.decode() for option in itertools.takewhile(lambda option: option.keyword, options)]
    assert "sslmode" in names
    assert [name for name in names if name not in KNOWN] == []


@pytest.mark.parametrize(
    ("query", "passed_on"),
    [
        ("", {}),
        ("sslmode=require", {"sslmode": "require"}),
        ("sslmode=disable&sslmode=require", {"sslmode": "require"}),
        ("ssl=true", {"sslmode": "require"}),
        ("requiressl=1", {"sslmode": "require"}),
        ("requiressl=0", {}),
        ("ssl=true&sslmode=disable", {"sslmode": "disable"}),
        ("options=-c%20geqo%3Doff", {"options": "-c geqo=off"}),
        ("options=endpoint%3Da-b-1", {"options": "endpoint=a-b-1"}),
        ("password=a+b%2Bc", {"password": "a+b+c"}),
        ("host=/run/a%20b,other&port=5432,5433", {"host": "/run/a b,other", "port": "5432,5433"}),
        ("ssl_min_protocol_version=TLSv1.3", {"ssl_min_protocol_version": "TLSv1.3"}),
        ("channel_binding=prefer&gssencmode=disable&sslmode=", {}),
        ("connect_timeout=7&application_name=x", {}),
    ],
)
def test_what_the_driver_takes_is_handed_on(query: str, passed_on: dict[str, str]) -> None:
    assert read(query) == passed_on


@pytest.mark.parametrize(
    ("query", "ignored"),
    [
        *((f"{name}=1", name) for name in ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
          "tcp_user_timeout", "application_name", "fallback_application_name", "sslcompression", "sslsni",
          "gssdelegation")),
        ("load_balance_hosts=random", "load_balance_hosts"),
        ("client_encoding=LATIN1", "client_encoding"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("max_protocol_version=latest", "max_protocol_version"),
        ("options=-c%20geqo%3Doff%20--search-path%3Dx", "options search-path"),
        ("options=-cTimeZone%3DAsia/Kolkata", "options TimeZone"),
    ],
)  # fmt: skip
def test_what_weakens_nothing_is_ignored_by_name(query: str, ignored: str) -> None:
    assert list(read_database_url(f"{BASE}?{query}", {}).ignored) == [ignored]


@pytest.mark.parametrize(
    "query",
    ["", "target_session_attrs=read-write", "target_session_attrs=primary", "channel_binding=prefer",
     "options=-c%20geqo%3Doff", "connect_timeout=3", "gssencmode=prefer", "replication=false", "keepalives="],
)  # fmt: skip
def test_a_parameter_that_asks_for_the_default_is_not_reported(query: str) -> None:
    assert read_database_url(f"{BASE}?{query}", {}).ignored == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("channel_binding=require", ("channel_binding", "sslmode=verify-full")),
        ("require_auth=scram-sha-256", ("require_auth", "pg_hba.conf")),
        ("require_auth=!password", ("require_auth",)),
        ("gssencmode=require", ("gssencmode", "sslmode=verify-full")),
        ("sslcertmode=require", ("sslcertmode",)),
        ("sslcrldir=/etc/crls", ("sslcrldir", "sslcrl")),
        ("requirepeer=postgres", ("requirepeer",)),
        ("min_protocol_version=3.2", ("min_protocol_version", "3.0")),
        ("replication=database", ("replication",)),
        ("hostaddr=127.0.0.1", ("hostaddr", "as the host")),
        ("servicefile=/etc/x", ("servicefile", "PGSERVICEFILE")),
        ("scram_client_key=abc", ("scram_client_key", "password")),
        ("oauth_issuer=https://x", ("oauth_issuer",)),
        ("sslmode=verify_full", ("sslmode", "verify-full")),
        ("sslnegotiation=direct", ("sslnegotiation", "sslmode=require")),
        ("ssl_min_protocol_version=1.3", ("ssl_min_protocol_version", "TLSv1.3")),
        ("port=54x", ("port", "number")),
        ("connect_timeout=2s", ("connect_timeout", "seconds")),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", ("sslrootcert", "missing")),
        ("sslcert=/nowhere/me.pem", ("sslcert", "missing")),
        ("sslcrl=/dev/null", ("sslcrl", "of another kind")),
        ("sslmode=require&sslrootcert=system", ("sslrootcert=system", "verify-full")),
        ("keepalive=1", ("keepalive", "did you mean keepalives?")),
        ("ssl_mode=require", ("did you mean sslmode?",)),
        ("search_path=x", ("search_path", "options=-c%20NAME=VALUE")),
        ("sslmode", ("NAME=VALUE",)),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_remedy(query: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_database_url(f"{BASE}?{query}", {"HOME": "/nowhere"})
    assert [word for word in words if word not in str(refused.value)] == []
    assert "OUTCOMES_DATABASE_URL" in str(refused.value)
    assert "pass-word" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"), [("PGCHANNELBINDING", "require"), ("PGREQUIREAUTH", "md5"), ("PGGSSENCMODE", "require")]
)
def test_unsupported_environment_variables_of_libpq_are_refused_too(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}: "):
        read_database_url(BASE, {variable: value})
    read_database_url(BASE, {variable: ""})
    read_database_url(f"{BASE}?channel_binding=prefer", {"PGCHANNELBINDING": "require"})


@pytest.mark.parametrize(
    "address",
    [
        "host=db dbname=x password=pass-word",
        "mysql://bob:pass-word@db/x",
        "bob:pass-word@db/x",
        "postgresql://bob:pa?pass-word@db/x",
        "postgresql://bob:pa?pass-word=1&x=2@db/x",
        "postgresql://bob:pa?pass=word&secret=2@db/x",
        "postgresql://db/x?password=pa&secret=word",
    ],
)
def test_an_address_that_was_not_encoded_is_refused_without_a_part_of_its_password(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_database_url(address, {})
    assert re.search("pass-word|secret|=word|pa[?&]", str(refused.value)) is None
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(("value", "seconds"), [("9", 9.0), ("0", CONNECT_SECONDS), ("-1", CONNECT_SECONDS), ("", 5.0)])
def test_connect_timeout_is_the_longest_that_connecting_takes(value: str, seconds: float) -> None:
    assert read_database_url(f"{BASE}?connect_timeout={value}", {}).connect_seconds == seconds


def test_a_hash_is_a_part_of_the_password_as_it_is_to_psql() -> None:
    assert urlsplit(read_database_url("postgresql://bob:a#b@db/x", {}).url).password == "a%23b"


def test_the_authorities_of_this_machine_are_trusted_with_the_name_checked() -> None:
    given = read("sslrootcert=system")
    assert given["sslmode"] == "verify-full"
    assert "BEGIN CERTIFICATE" in Path(given["sslrootcert"]).read_text()


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("postgresql://bob:p@pg1,pg2:5433,[::1]:5434/x?sslmode=disable", [
            "postgresql://bob:p@pg1/x?sslmode=disable", "postgresql://bob:p@pg2:5433/x?sslmode=disable",
            "postgresql://bob:p@[::1]:5434/x?sslmode=disable"]),
        ("postgresql:///x?host=/run/a,/run/b&port=1,2", [
            "postgresql:///x?host=/run/a&port=1", "postgresql:///x?host=/run/b&port=2"]),
        ("postgresql://bob@/x?host=a,b&port=9", ["postgresql://bob@/x?host=a&port=9", "postgresql://bob@/x?host=b&port=9"]),
        ("postgresql://db/x", ["postgresql://db/x"]),
        ("postgresql:///x", ["postgresql:///x"]),
        ("postgresql://bob:p", ["postgresql://bob:p"]),
    ],
)  # fmt: skip
def test_each_of_several_hosts_has_an_address_of_its_own(address: str, hosts: list[str]) -> None:
    assert list(read_database_url(address, {}).hosts) == hosts

"""Settings: the documented defaults, and that each unusable value is refused with the name of its setting."""

from dataclasses import asdict
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.settings import (
    KEPT,
    NAMES,
    SECRETS,
    SYNC_NAMES,
    SYNC_SECRETS,
    find_unknown_names,
    read_settings,
    read_sync_settings,
)

NUMBERS = {
    "OUTCOMES_PORT": (0, 65535),
    "OUTCOMES_MAX_BODY_BYTES": (1024, 2**28),
    "OUTCOMES_GRACE_SECONDS": (0, 604_800),
    "OUTCOMES_STUCK_SECONDS": (0, 2_592_000),
    "OUTCOMES_RECONCILE_SECONDS": (0, 86_400),
    "OUTCOMES_SESSION_IDLE_SECONDS": (300, 604_800),
    "OUTCOMES_SESSION_SECONDS": (900, 2_592_000),
    "OUTCOMES_KEEP_BODIES_DAYS": (0, 36_500),
    "OUTCOMES_KEEP_AUDIT_DAYS": (0, 36_500),
}
FLAGS = [
    "OUTCOMES_ALLOW_UNSAFE_DATABASE",
    "OUTCOMES_MIGRATE_ON_START",
    "OUTCOMES_ALLOW_UNSAFE_SPILL",
    "OUTCOMES_ALLOW_UNSIGNED",
]


def write_secret(name: str, text: str) -> str:
    """A value of a secret setting that contains the text."""
    return f"nats://{text}" if name == "OUTCOMES_SPILL_URL" else text


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    assert asdict(read_settings({})) == {
        "database_url": "",
        "data_dir": Path(".data"),
        "allow_unsafe_database": False,
        "migrate_on_start": True,
        "spill_url": "",
        "allow_unsafe_spill": False,
        "host": "127.0.0.1",
        "port": 8080,
        "api_key": "",
        "formant_base_url": "https://api.voice.formantai.com",
        "formant_api_key": "",
        "webhook_secrets": (),
        "allow_unsigned": False,
        "targets_file": None,
        "ref_column": "outcome_ref",
        "default_region": "",
        "max_body_bytes": 5_242_880,
        "max_connections": 2000,
        "grace_seconds": 900,
        "stuck_seconds": 21_600,
        "reconcile_seconds": 30,
        "time_zone": "UTC",
        "max_exports": 4,
        "export_seconds": 3600,
        "bi_password": "",
        "log_level": "info",
        "traces": False,
        "public_url": "",
        "runbook_url": "",
        "session_idle_seconds": 28_800,
        "session_seconds": 86_400,
        "oidc_issuer": "",
        "oidc_client_id": "",
        "oidc_client_secret": "",
        "oidc_scopes": "openid profile email",
        "oidc_groups_claim": "groups",
        "oidc_group_scopes": {},
        "keep_days": dict.fromkeys(KEPT, 0),
    }


def test_every_setting_is_read_under_its_name() -> None:
    environ = {
        "OUTCOMES_DATABASE_URL": " postgresql://db/outcomes \n",
        "OUTCOMES_DATA_DIR": "/var/lib/outcomes",
        "OUTCOMES_ALLOW_UNSAFE_DATABASE": "1",
        "OUTCOMES_MIGRATE_ON_START": "0",
        "OUTCOMES_SPILL_URL": "nats://user:password@one:4222,tls://two",
        "OUTCOMES_ALLOW_UNSAFE_SPILL": "1",
        "OUTCOMES_HOST": "0.0.0.0",
        "OUTCOMES_PORT": "9000",
        "OUTCOMES_API_KEY": "key",
        "FORMANT_BASE_URL": "https://api.in.voice.formantai.com/",
        "FORMANT_API_KEY": "formant-key",
        "FORMANT_WEBHOOK_SECRET": " new , old ,",
        "OUTCOMES_ALLOW_UNSIGNED": "1",
        "OUTCOMES_TARGETS_FILE": "/etc/targets.toml",
        "OUTCOMES_REF_COLUMN": "ref",
        "OUTCOMES_DEFAULT_REGION": "in",
        "OUTCOMES_MAX_BODY_BYTES": "4096",
        "OUTCOMES_MAX_CONNECTIONS": "50",
        "OUTCOMES_GRACE_SECONDS": "0",
        "OUTCOMES_STUCK_SECONDS": "3600",
        "OUTCOMES_RECONCILE_SECONDS": "5",
        "OUTCOMES_TIME_ZONE": "Asia/Kolkata",
        "OUTCOMES_MAX_EXPORTS": "2",
        "OUTCOMES_EXPORT_SECONDS": "60",
        "OUTCOMES_BI_PASSWORD": "reader",
        "OUTCOMES_LOG_LEVEL": "WARNING",
        "OUTCOMES_TRACES": "1",
        "OUTCOMES_PUBLIC_URL": "https://outcomes.example.com/",
        "OUTCOMES_RUNBOOK_URL": "https://wiki.example.com/runbook",
        "OUTCOMES_SESSION_IDLE_SECONDS": "600",
        "OUTCOMES_SESSION_SECONDS": "3600",
        "OUTCOMES_OIDC_ISSUER": "https://sso.example.com/realms/one/",
        "OUTCOMES_OIDC_CLIENT_ID": "outcomes",
        "OUTCOMES_OIDC_CLIENT_SECRET": "hidden",
        "OUTCOMES_OIDC_SCOPES": "openid groups",
        "OUTCOMES_OIDC_GROUPS_CLAIM": "realm_access.roles",
        "OUTCOMES_OIDC_GROUP_SCOPES": "CN=Analysts,OU=Sales = read; ops=read , upload,admin;",
        "OUTCOMES_KEEP_BODIES_DAYS": "1",
        "OUTCOMES_KEEP_PEOPLE_DAYS": "2",
        "OUTCOMES_KEEP_QUARANTINE_DAYS": "3",
        "OUTCOMES_KEEP_AUDIT_DAYS": "4",
        "OUTCOMES_KEEP_SNAPSHOTS_DAYS": "5",
    }
    assert environ.keys() == NAMES.keys(), "a setting was added: read it here too"
    assert asdict(read_settings(environ)) == {
        "database_url": "postgresql://db/outcomes",
        "data_dir": Path("/var/lib/outcomes"),
        "allow_unsafe_database": True,
        "migrate_on_start": False,
        "spill_url": "nats://user:password@one:4222,tls://two",
        "allow_unsafe_spill": True,
        "host": "0.0.0.0",
        "port": 9000,
        "api_key": "key",
        "formant_base_url": "https://api.in.voice.formantai.com",
        "formant_api_key": "formant-key",
        "webhook_secrets": ("new", "old"),
        "allow_unsigned": True,
        "targets_file": Path("/etc/targets.toml"),
        "ref_column": "ref",
        "default_region": "IN",
        "max_body_bytes": 4096,
        "max_connections": 50,
        "grace_seconds": 0,
        "stuck_seconds": 3600,
        "reconcile_seconds": 5,
        "time_zone": "Asia/Kolkata",
        "max_exports": 2,
        "export_seconds": 60,
        "bi_password": "reader",
        "log_level": "warning",
        "traces": True,
        "public_url": "https://outcomes.example.com",
        "runbook_url": "https://wiki.example.com/runbook",
        "session_idle_seconds": 600,
        "session_seconds": 3600,
        "oidc_issuer": "https://sso.example.com/realms/one/",
        "oidc_client_id": "outcomes",
        "oidc_client_secret": "hidden",
        "oidc_scopes": "openid groups",
        "oidc_groups_claim": "realm_access.roles",
        "oidc_group_scopes": {"CN=Analysts,OU=Sales": ("read",), "ops": ("read", "upload", "admin")},
        "keep_days": {"bodies": 1, "people": 2, "quarantine": 3, "audit": 4, "snapshots": 5},
    }


@pytest.mark.parametrize("name", sorted(NAMES.keys() - {"OUTCOMES_REF_COLUMN"}))
def test_an_empty_value_means_the_default(name: str) -> None:
    assert read_settings({name: " "}) == read_settings({})


@pytest.mark.parametrize(
    "value",
    [
        "customer_phone", "Customer_Phone", "CUSTOMER PHONE", "customer-phone", "customerPhone", "customer.phone",
        "customer__phone_", "_customer_phone", " customer_phone ",
        "a,b", "a;b", "a\tb", "a|b", 'a"b', "a'b", "a\nb", "a\x00b", "a{b}", "a/b", "a\\b", "a:b", "$ref",
        "=ref", "+ref", "-ref", "@ref", "1ref", ".ref", "réf", "ref\u200b", "ｃustomer_phone", "x" * 65,
    ],
)  # fmt: skip
def test_a_reference_column_that_is_the_phone_column_or_not_a_plain_name_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_REF_COLUMN takes"):
        read_settings({"OUTCOMES_REF_COLUMN": value})


@pytest.mark.parametrize("value", ["outcome_ref", "ref", "Outcome Ref", "_r.1-x", "customer_phone_ref", "x" * 64])
def test_a_plain_name_can_be_the_reference_column(value: str) -> None:
    assert read_settings({"OUTCOMES_REF_COLUMN": value}).ref_column == value


def test_an_empty_reference_column_means_none() -> None:
    assert read_settings({"OUTCOMES_REF_COLUMN": ""}).ref_column == ""


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["x", "1.5", "-1", "1e3", "0x10", "²", "9" * 5000])
def test_a_value_that_is_not_a_whole_number_is_refused_with_the_name_of_its_setting(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} takes a whole number from"):
        read_settings({name: value})


@pytest.mark.parametrize(("name", "bounds"), NUMBERS.items())
def test_numbers_are_accepted_up_to_their_bounds_and_no_further(name: str, bounds: tuple[int, int]) -> None:
    for bound in bounds:
        read_settings({name: str(bound)})
    for beyond in (bounds[0] - 1, bounds[1] + 1):
        with pytest.raises(ConfigurationError, match=f"^{name} takes a whole number from {bounds[0]} to {bounds[1]}"):
            read_settings({name: str(beyond)})


@pytest.mark.parametrize(
    "value",
    ["outcomes.example.com", "ftp://x", "https://", "https://x/console", "https://x?a", "https://u:p@x", "https://x#a"],
)
def test_a_public_address_that_is_not_an_origin_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_PUBLIC_URL takes an address without a path"):
        read_settings({"OUTCOMES_PUBLIC_URL": value})


@pytest.mark.parametrize("value", ["sso.example.com", "http://sso.example.com", "https://", "ldap://x"])
def test_an_issuer_without_tls_is_refused_unless_it_is_on_this_machine(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_OIDC_ISSUER takes"):
        read_settings({"OUTCOMES_OIDC_ISSUER": value})
    assert read_settings({"OUTCOMES_OIDC_ISSUER": "http://127.0.0.1:3000"}).oidc_issuer == "http://127.0.0.1:3000"


@pytest.mark.parametrize("value", ["ops", "ops=", "=read", "ops=read,", "ops=read;ops=feed", "ops=,"])
def test_groups_without_scopes_are_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_OIDC_GROUP_SCOPES takes each group once"):
        read_settings({"OUTCOMES_OIDC_GROUP_SCOPES": value})


def test_the_scopes_asked_of_the_provider_include_openid() -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_OIDC_SCOPES takes .* openid"):
        read_settings({"OUTCOMES_OIDC_SCOPES": "profile groups"})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["true", "yes", "2", "01"])
def test_flags_take_0_or_1_only(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} takes 0 or 1, not '{value}'"):
        read_settings({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FORMANT_BASE_URL", "api.voice.formantai.com"),
        ("FORMANT_BASE_URL", "ftp://api"),
        ("FORMANT_BASE_URL", "https://"),
        ("OUTCOMES_TIME_ZONE", "Asia/Calcuta"),
        ("OUTCOMES_TIME_ZONE", "../../etc/passwd"),
        ("OUTCOMES_TIME_ZONE", "America"),
        ("OUTCOMES_TIME_ZONE", "a\x00b"),
        ("OUTCOMES_LOG_LEVEL", "verbose"),
        ("OUTCOMES_TRACES", "yes"),
    ],
)
def test_other_bad_values_are_refused_with_the_name_of_their_setting(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} takes "):
        read_settings({name: value})


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_each_secret_can_be_given_as_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{write_secret(name, 'from-file')}\n")
    assert "from-file" in str(asdict(read_settings({f"{name}_FILE": str(path)})).values())


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_given_in_both_ways_is_refused_without_being_quoted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from-file")
    with pytest.raises(ConfigurationError, match=f"^{name} and {name}_FILE are both set: keep one") as refused:
        read_settings({name: "from-environment", f"{name}_FILE": str(path)})
    assert "from-" not in str(refused.value).replace(str(path), "")


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_secret_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_API_KEY_FILE: .*/secret cannot be read"):
        read_settings({"OUTCOMES_API_KEY_FILE": str(path)})


def test_an_empty_value_does_not_conflict_with_a_secret_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("key")
    assert read_settings({"OUTCOMES_API_KEY": "", "OUTCOMES_API_KEY_FILE": str(path)}).api_key == "key"


def test_misspelt_names_are_found_and_the_nearest_setting_is_suggested() -> None:
    unlike_any = "OUTCOMES_0123456789_0123456789"
    environ = dict.fromkeys(["OUTCOMES_PROT", "FORMANT_WEBHOOK_SECRETS", unlike_any, "PATH", "HOME"], "x")
    assert find_unknown_names(environ) == {
        "FORMANT_WEBHOOK_SECRETS": "FORMANT_WEBHOOK_SECRET",
        "OUTCOMES_PROT": "OUTCOMES_PORT",
        unlike_any: "",
    }


def test_only_secrets_can_be_given_as_files() -> None:
    files = [f"{name}_FILE" for name in SECRETS | SYNC_SECRETS]
    assert find_unknown_names(dict.fromkeys([*NAMES, *SYNC_NAMES, *files], "")) == {}
    assert list(find_unknown_names({"OUTCOMES_PORT_FILE": "/x"})) == ["OUTCOMES_PORT_FILE"]


def test_no_secret_appears_in_repr_or_text() -> None:
    settings = read_settings({name: write_secret(name, f"hush-{name}") for name in SECRETS})
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "hush" not in text


@pytest.mark.parametrize("value", ["http://hush:4222", "hush", "nats://", "nats://a,hush"])
def test_other_addresses_than_those_of_nats_servers_are_refused_without_being_quoted(value: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^OUTCOMES_SPILL_URL takes addresses that begin with nats://"
    ) as refused:
        read_settings({"OUTCOMES_SPILL_URL": value})
    assert "hush" not in str(refused.value)


def test_the_sync_job_has_its_own_settings() -> None:
    assert asdict(read_sync_settings({})) == {
        "url": "http://127.0.0.1:8080",
        "feed_key": "",
        "crm_token": "",
        "log_level": "info",
    }
    environ = {
        "OUTCOMES_URL": "https://outcomes.example.com/",
        "OUTCOMES_FEED_KEY": "feed-key",
        "OUTCOMES_CRM_TOKEN": "crm-token",
    }
    assert environ.keys() == SYNC_NAMES.keys(), "a setting was added: read it here too"
    assert {"OUTCOMES_FEED_KEY", "OUTCOMES_CRM_TOKEN"} == SYNC_SECRETS
    assert asdict(read_sync_settings({**environ, "OUTCOMES_LOG_LEVEL": "error"})) == {
        "url": "https://outcomes.example.com",
        "feed_key": "feed-key",
        "crm_token": "crm-token",
        "log_level": "error",
    }


@pytest.mark.parametrize("name", sorted(SYNC_SECRETS))
def test_each_secret_of_the_sync_job_can_be_given_as_a_file_and_is_not_in_repr(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hush\n")
    settings = read_sync_settings({f"{name}_FILE": str(path)})
    assert "hush" in asdict(settings).values()
    assert "hush" not in repr(settings)


def test_a_wrong_address_of_the_service_is_refused_with_the_name_of_its_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_URL takes "):
        read_sync_settings({"OUTCOMES_URL": "outcomes.example.com"})


@pytest.mark.parametrize("value", ["docs/operate/runbook.md", "https://wiki.example.com/runbook#drift"])
def test_the_runbooks_address_is_that_of_a_page(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_RUNBOOK_URL takes the address of a page"):
        read_settings({"OUTCOMES_RUNBOOK_URL": value})

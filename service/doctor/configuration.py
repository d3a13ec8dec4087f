"""The settings: whether they are valid, complete and safe."""

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from service.access.oidc import read_oidc
from service.doctor.findings import Finding, Thresholds, explain, ok, problem, show_bytes, unchecked, warning
from service.errors import ConfigurationError
from service.formant.regions import Regions
from service.formant.targets import load_kinds, load_targets, read_secrets
from service.settings import NAMES, SECRETS, Settings, find_unknown_names, read_settings
from service.store.database import Database

SHORT_SECRET = 16
SHORT_KEY = 24
TRIAL_SECRETS = ("demo-key", "demo-secret", "sandbox-key")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read_usable_settings(environ: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """The settings, with defaults for those that are invalid, and a finding for each of these."""
    usable = dict(environ)
    findings: list[Finding] = []
    while True:
        try:
            return read_settings(usable), findings
        except ConfigurationError as error:
            refused = [name for name in usable if name.removesuffix("_FILE") == _name_of(error)]
            remedy = f"Correct {_name_of(error)}: serve refuses to start with it"
            findings.append(problem(_without_value(str(error)), remedy))
            if not refused:
                return read_settings({}), findings
            for name in refused:
                del usable[name]


async def check_settings(environ: Mapping[str, str], wrong: list[Finding]) -> list[Finding]:
    """Invalid values and unknown names."""
    findings = list(wrong)
    for name, nearest in find_unknown_names(environ).items():
        meant = f"Did you mean {nearest}? " if nearest else ""
        remedy = f"{meant}Unset it, or see docs/operate/settings.md"
        findings.append(warning(f"{name} is set, but is not a setting", remedy))
    if environ.get("OUTCOMES_ALLOW_UNSAFE_DATABASE") == "1":
        message = "OUTCOMES_ALLOW_UNSAFE_DATABASE=1: a crash may lose what was acknowledged"
        findings.append(warning(message, "Unset it in production"))
    given = sum(name in NAMES for name in environ)
    return findings or [ok(f"Settings given: {given}, all valid")]


async def check_call_kinds(settings: Settings) -> list[Finding]:
    """The rules by which calls are single or inbound."""
    try:
        kinds = load_kinds(settings.targets_file, Regions(settings.default_region))
    except ConfigurationError:
        return [unchecked("The rules for calls outside batches cannot be read", "See configuration.webhook_secrets")]
    shown = [f"target {name}: all {kind}" for name, kind in sorted(kinds.targets.items())]
    for agent_id, rules in sorted(kinds.agents.items()):
        parts = [f"own numbers: {len(rules.numbers)}"] if rules.numbers else []
        parts += [f"single when {name} is one of {len(wanted)}" for name, wanted in sorted(rules.single_when.items())]
        parts += [f"others: {rules.kind}"] if rules.kind else []
        shown.append(f"agent {agent_id}: {', '.join(parts)}")
    if not shown:
        return [ok("No rules for single and inbound calls: any call without a reference may be a batch's")]
    return [ok(f"Rules for single and inbound calls: {'; '.join(shown)}")]


async def check_webhook_secrets(settings: Settings) -> list[Finding]:
    """Whether webhooks are verified, and with which secrets."""
    try:
        targets = load_targets(
            settings.webhook_secrets, allow_unsigned=settings.allow_unsigned, path=settings.targets_file
        )
    except ConfigurationError as error:
        if str(error).startswith("OUTCOMES_TARGETS_FILE: "):  # the rest may quote the file, which contains secrets
            message = f"OUTCOMES_TARGETS_FILE: {settings.targets_file} cannot be used"
            return [problem(message, "Correct it: see docs/operate/install.md")]
        return [explain(error)]
    findings = []
    if settings.allow_unsigned and not settings.webhook_secrets:
        remedy = "Set FORMANT_WEBHOOK_SECRET and unset OUTCOMES_ALLOW_UNSIGNED"
        findings.append(problem("Anyone may post webhooks: OUTCOMES_ALLOW_UNSIGNED=1 and no secret", remedy))
    elif settings.allow_unsigned:
        findings.append(warning("OUTCOMES_ALLOW_UNSIGNED=1 has no effect, since there is a secret", "Unset it"))
    for name, secrets in _list_secrets(settings):
        for place, secret in enumerate(secrets, 1):
            what = f"Secret {place} of the target {name}"
            remedy = "Make one of 32 random bytes (openssl rand -hex 32), here and in the provider's dashboard"
            if secret in TRIAL_SECRETS:
                findings.append(problem(f"{what} is one of the demo's, which are public", remedy))
            elif len(secret) < SHORT_SECRET:
                findings.append(warning(f"{what} has fewer than {SHORT_SECRET} characters", remedy))
        if len(secrets) > 1:
            remedy = "After the rotation remove those that outcomes_webhook_secret_used_total shows as unused"
            findings.append(warning(f"The target {name} takes {len(secrets)} secrets", remedy))
    return findings or [ok(f"Each webhook target has a secret: {', '.join(sorted(targets))}")]


async def check_api_keys(settings: Settings, database: Database | None) -> list[Finding]:
    """Whether the API has keys, and strong ones."""
    if settings.api_key in TRIAL_SECRETS:
        return [problem("OUTCOMES_API_KEY is the demo's, which is public", "Set another: openssl rand -hex 32")]
    if settings.api_key and len(settings.api_key) < SHORT_KEY:
        remedy = "Set one of 32 random bytes (openssl rand -hex 32)"
        return [warning(f"OUTCOMES_API_KEY has fewer than {SHORT_KEY} characters, and all scopes", remedy)]
    if settings.api_key:
        return [ok("OUTCOMES_API_KEY is set, with all scopes")]
    if database is None:
        return [unchecked("No OUTCOMES_API_KEY; stored keys were not checked")]
    live = await database.queries.count_live_keys(database.pool)
    if live:
        return [ok(f"Valid stored keys: {live}")]
    remedy = "Run `outcomes keys create NAME`, or set OUTCOMES_API_KEY"
    return [warning("There is no API key: nobody can call the API", remedy)]


async def check_secret_files(environ: Mapping[str, str]) -> list[Finding]:
    """Whether other users of this machine may read secrets."""
    names = [f"{name}_FILE" for name in SECRETS] + ["OUTCOMES_TARGETS_FILE"]
    given = [name for name in names if environ.get(name)]
    findings = []
    for name in given:
        try:
            mode = os.stat(environ[name]).st_mode  # noqa: PTH116  a few files, once
        except OSError:
            continue  # reported where the settings are read
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            remedy = f"chmod o= {environ[name]} (in Kubernetes: defaultMode: 0440 of the secret's volume)"
            findings.append(warning(f"{name} is open to every user of this machine (mode {mode & 0o777:04o})", remedy))
    return findings or [ok(f"Secret files: {len(given)}, none open to others")]


async def check_provider_settings(settings: Settings) -> list[Finding]:
    """Whether the provider can be called, without exposing our key."""
    findings = []
    address = urlsplit(settings.formant_base_url)
    if address.scheme == "http" and address.hostname not in LOOPBACK:
        message = "FORMANT_BASE_URL is http: our key and people's phone numbers are sent unencrypted"
        findings.append(problem(message, "Set it to https://…"))
    if not settings.formant_api_key:
        message = "FORMANT_API_KEY is empty: nothing can be uploaded, reconciled or healed"
        findings.append(warning(message, "Set it to a key from the provider's dashboard"))
    elif not settings.reconcile_seconds:
        message = "OUTCOMES_RECONCILE_SECONDS=0: lost webhooks are only found on demand"
        findings.append(warning(message, "Set it to 30"))
    return findings or [ok("The provider is called with our key")]


async def check_sign_in(settings: Settings) -> list[Finding]:
    """How people sign in to the console, and whether what they send is encrypted."""
    try:
        configuration = read_oidc(settings)
    except ConfigurationError as error:
        return [explain(error)]
    address = urlsplit(settings.public_url)
    if address.scheme == "http" and address.hostname not in LOOPBACK:
        message = "OUTCOMES_PUBLIC_URL is http: keys and sessions of people are sent unencrypted"
        return [problem(message, "Put TLS in front (deploy/nginx.conf), and set it to https://…")]
    if configuration is None:
        return [ok("People sign in to the console with an API key")]
    return [ok(f"People sign in to the console at {configuration.issuer}, or with an API key")]


async def check_data_dir(settings: Settings, thresholds: Thresholds) -> list[Finding]:
    """Whether the embedded Postgres has room for its data."""
    if settings.database_url:
        return [ok("OUTCOMES_DATABASE_URL is set: OUTCOMES_DATA_DIR is not used")]
    folder = settings.data_dir.expanduser().absolute()
    remedy = "Give it to the user that the service runs as, or name another"
    try:
        while not folder.exists():
            folder = folder.parent
    except OSError as error:
        return [problem(f"OUTCOMES_DATA_DIR: {folder} cannot be used ({error.strerror})", remedy)]
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return [problem(f"OUTCOMES_DATA_DIR: {folder} cannot be written", remedy)]
    free = shutil.disk_usage(folder).free
    message, remedy = f"{show_bytes(free)} are free in {folder}", "Free space, or shorten OUTCOMES_KEEP_BODIES_DAYS"
    if free < thresholds.free_bytes[1]:
        return [problem(f"Only {message}", remedy)]
    if free < thresholds.free_bytes[0]:
        return [warning(f"Only {message}", remedy)]
    return [ok(message)]


def _list_secrets(settings: Settings) -> Iterator[tuple[str, list[str]]]:
    if settings.webhook_secrets:
        yield "default", list(settings.webhook_secrets)
    if settings.targets_file is not None:
        yield from read_secrets(settings.targets_file).items()


def _name_of(error: ConfigurationError) -> str:
    return str(error).split(maxsplit=1)[0].rstrip(":,").removesuffix("_FILE")


def _without_value(message: str) -> str:
    """What the setting takes, without its value: that may be a misplaced secret."""
    return message.partition(", not ")[0]

"""Runs the checks one after the other, each within a time limit. A check that fails does not stop the others."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from service.counts import count
from service.doctor import (
    configuration,
    connection,
    postgres,
    provider,
    schema,
    service,
    spill,
    webhooks,
    work,
)
from service.doctor.findings import DEFAULT_THRESHOLDS, Finding, Level, Thresholds, problem, show_seconds, unchecked
from service.errors import ConfigurationError
from service.settings import Settings
from service.store.database import Database, count_connections, open_unchecked_database
from service.store.database_url import read_database_url

STATEMENT_SECONDS = 5.0
HIDDEN_LENGTH = 6
"""Shorter secrets are not hidden, since that would garble words; a finding reports that they are short."""
SILENCE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError)
ABSENT = (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError)


class Result(NamedTuple):
    """A finding of the check named ``check``."""

    check: str
    finding: Finding


class Check(NamedTuple):
    """A check by its name, ``area.subject``."""

    name: str
    run: Callable[[], Awaitable[list[Finding]]]


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is checked. ``database_url`` is None without a database, for the reason ``no_database``; ``service_url`` and
    ``webhook_url`` are None where no request is to be sent, and ``environ`` where only the settings are known."""

    environ: Mapping[str, str] | None
    settings: Settings
    wrong_settings: list[Finding]
    database_url: str | None
    service_url: str | None
    webhook_url: str | None
    no_database: Finding | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    async def run(self) -> AsyncGenerator[Result]:
        """The findings of every check, as soon as there are any."""
        secrets, failed = _list_secrets(self.settings), set[str]()
        async for check in self._list_checks(failed):
            for level, message, remedy in await self._run_check(check):
                if level is Level.PROBLEM:
                    failed.add(check.name)
                yield Result(check.name, Finding(level, _hide(message, secrets), _hide(remedy, secrets)))

    async def _list_checks(self, failed: set[str]) -> AsyncIterator[Check]:
        """The checks in their order; ``failed`` has the names of those so far that found a problem."""
        settings = self.settings
        environ = self.environ
        if environ is not None:
            yield Check("configuration.settings", partial(configuration.check_settings, environ, self.wrong_settings))
        yield Check("configuration.webhook_secrets", partial(configuration.check_webhook_secrets, settings))
        yield Check("configuration.call_kinds", partial(configuration.check_call_kinds, settings))
        if environ is not None:
            yield Check("configuration.secret_files", partial(configuration.check_secret_files, environ))
        yield Check("configuration.provider", partial(configuration.check_provider_settings, settings))
        yield Check("configuration.sign_in", partial(configuration.check_sign_in, settings))
        yield Check("configuration.data_dir", partial(configuration.check_data_dir, settings, self.thresholds))
        yield Check("spill.servers", partial(spill.check_spill, settings))
        no_database = self._explain_absence()
        if self.database_url is None or no_database is not None:
            yield _known("database.answer", no_database or unchecked("There is no database to check"))
            for check in (self._api_keys(None), *self._list_last(None)):
                yield check
            return
        async with open_unchecked_database(
            self.database_url, connections=3, statement_seconds=STATEMENT_SECONDS, application_name="outcomes doctor"
        ) as database:
            yield _known("database.answer", *await self._reach(database))
            checks = self._list_of_database(database)
            if "database.answer" in failed:
                message = f"{count(len(checks), 'check')} left out: the database does not answer"
                yield _known("database", unchecked(message))
            else:
                for check in checks:
                    yield check
            is_writable = failed.isdisjoint({"database.answer", "database.commit", "database.schema"})
            for check in self._list_last(database if is_writable else None):
                yield check

    def _explain_absence(self) -> Finding | None:
        """Why there is no database to connect to; None: there may be one."""
        if self.database_url is None:
            return self.no_database
        try:
            read_database_url(self.database_url)
        except ConfigurationError as error:
            return connection.explain_silence(error)
        return None

    def _list_of_database(self, database: Database) -> list[Check]:
        settings, limits, url = self.settings, self.thresholds, database.url
        return [
            self._api_keys(database),
            Check("database.commit", partial(connection.check_commit, database, limits)),
            Check("database.pooler", partial(connection.check_pooler, database)),
            Check("database.encryption", partial(connection.check_encryption, database, url)),
            Check("database.durability", partial(postgres.check_durability, database)),
            Check("database.standby", partial(postgres.check_standby, database)),
            Check("database.connections", partial(postgres.check_connections, database, count_connections(settings))),
            Check("database.session", partial(postgres.check_session, database)),
            Check("database.timeouts", partial(postgres.check_timeouts, database)),
            Check("database.wal", partial(postgres.check_wal, database, limits)),
            Check("database.vacuum", partial(postgres.check_vacuum, database, limits)),
            Check("database.storage", partial(postgres.check_storage, database, self.now())),
            Check("database.sessions", partial(postgres.check_old_sessions, database, limits)),
            Check("database.prepared", partial(postgres.check_prepared_transactions, database, limits)),
            Check("database.slots", partial(postgres.check_replication_slots, database, limits)),
            Check("database.schema", partial(schema.check_schema_version, database)),
            Check("database.role", partial(schema.check_role, database, settings)),
            Check("database.bi_roles", partial(schema.check_bi_roles, database)),
            Check("partitions.months", partial(schema.check_months, database, self.now())),
            Check("partitions.retention", partial(schema.check_retention, database, settings, self.now())),
            Check("clock.database", partial(connection.check_database_clock, database, self.now, limits)),
            Check("work.alarms", partial(work.check_alarms, database)),
            Check("work.waiting", partial(work.check_waiting, database, settings, limits)),
            Check("work.consumers", partial(work.check_consumers, database, limits)),
            Check("webhooks.last", partial(webhooks.check_last_webhooks, database, settings)),
        ]

    def _list_last(self, writable: Database | None) -> list[Check]:
        settings, limits = self.settings, self.thresholds
        checks = [Check("provider.answer", partial(provider.check_provider, settings, writable, self.now, limits))]
        if self.webhook_url is not None:
            run = partial(webhooks.check_public_address, self.webhook_url, settings, self.now, limits)
            checks.append(Check("webhooks.address", run))
        if self.service_url is not None:
            checks.append(Check("service.answer", partial(service.check_service, self.service_url, limits)))
        return checks

    def _api_keys(self, database: Database | None) -> Check:
        return Check("configuration.api_keys", partial(configuration.check_api_keys, self.settings, database))

    async def _reach(self, database: Database) -> list[Finding]:
        """Whether it answers at all: all other checks of the database depend on that."""
        try:
            async with asyncio.timeout(self.thresholds.check_seconds):
                return await connection.check_answer(database, self.thresholds)
        except SILENCE as error:  # TimeoutError is an OSError
            return [connection.explain_silence(error)]

    async def _run_check(self, check: Check) -> list[Finding]:
        task = asyncio.ensure_future(check.run())
        done, _ = await asyncio.wait({task}, timeout=self.thresholds.check_seconds)
        if not done:
            task.cancel()  # and not awaited, because that may hang too
            message = f"No answer within {show_seconds(self.thresholds.check_seconds)}"
            return [problem(message, "See what the other findings have in common: network, disk, locks")]
        try:
            return task.result()
        except asyncpg.InsufficientPrivilegeError:
            remedy = "Run this as the service's role, after outcomes grant-service"
            return [unchecked("Not visible to this role", remedy)]
        except ABSENT:
            return [unchecked("The schema lacks what this checks", "Run `outcomes migrate`")]
        except Exception as error:  # its message may contain anything
            kind = " ".join(filter(None, (type(error).__name__, getattr(error, "sqlstate", None))))
            return [problem(f"The check itself failed ({kind})", "Check its subject by hand")]


def _known(name: str, *findings: Finding) -> Check:
    """A check whose findings are known already."""

    async def run() -> list[Finding]:
        return list(findings)

    return Check(name, run)


def _list_secrets(settings: Settings) -> list[str]:
    secrets = [settings.api_key, settings.formant_api_key, settings.bi_password, settings.oidc_client_secret]
    secrets += settings.webhook_secrets
    secrets += [urlsplit(server).password or "" for server in settings.spill_url.split(",")]
    with suppress(ValueError):
        address = urlsplit(settings.database_url)
        given = parse_qs(address.query)
        secrets += [address.password or "", unquote(address.password or "")]
        secrets += [value for name in ("password", "sslpassword") for value in given.get(name, [])]
    return sorted((secret for secret in secrets if len(secret) >= HIDDEN_LENGTH), key=len, reverse=True)


def _hide(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text

"""Runs the checks, one after the other: each within a time limit, and none that fails hides the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from service.app import count_connections
from service.doctor import (
    clock,
    configuration,
    connection,
    postgres,
    provider,
    schema,
    service,
    sessions,
    webhooks,
    work,
)
from service.doctor.findings import Check, Finding, Level, problem, show_seconds, unchecked
from service.doctor.limits import DEFAULT_THRESHOLDS, Thresholds
from service.errors import ConfigurationError
from service.settings import Settings
from service.store.database import Database, open_unchecked_database
from service.store.database_url import read_database_url

STATEMENT_SECONDS = 5.0
HIDDEN_LENGTH = 6
"""Shorter secrets would take words apart; that they are so short is told."""
SILENCE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError)
ABSENT = (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError)


class Told(NamedTuple):
    """A finding, and the check that it is of."""

    check: str
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is looked at. ``database_url`` is None where there is none to ask, which ``no_database`` then explains;
    ``service_url`` and ``webhook_url`` are None where nobody is to be asked."""

    environ: Mapping[str, str]
    settings: Settings
    wrong_settings: list[Finding]
    database_url: str | None
    service_url: str | None
    webhook_url: str | None
    no_database: Finding | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    async def run(self) -> AsyncIterator[Told]:
        """What every check has to tell, as soon as it has."""
        secrets = _list_secrets(self.settings)
        async for told in self._run():
            level, message, remedy = told.finding
            yield Told(told.check, Finding(level, _hide(message, secrets), _hide(remedy, secrets)))

    async def _run(self) -> AsyncIterator[Told]:
        async for told in self._look(self._list_first()):
            yield told
        writable: Database | None = None
        no_database = self._explain_absence()
        if self.database_url is None or no_database is not None:
            yield Told("database.answer", no_database or unchecked("There is no database to ask"))
            async for told in self._look([self._api_keys(None)]):
                yield told
            async for told in self._look(self._list_last(None)):
                yield told
            return
        async with open_unchecked_database(
            self.database_url, connections=3, statement_seconds=STATEMENT_SECONDS, application_name="outcomes doctor"
        ) as database:
            reached = await self._reach(database)
            for told in reached:
                yield told
            if all(told.finding.level is not Level.PROBLEM for told in reached):
                writable = database
                async for told in self._look(self._list_of_database(database)):
                    if told.check in {"database.commit", "database.schema"} and told.finding.level is Level.PROBLEM:
                        writable = None
                    yield told
            else:
                left_out = len(self._list_of_database(database))
                yield Told("database", unchecked(f"{left_out} checks were left out, since it cannot be asked"))
            async for told in self._look(self._list_last(writable)):
                yield told

    def _explain_absence(self) -> Finding | None:
        """Why there is no database to ask; None: there may be one."""
        if self.database_url is None:
            return self.no_database
        try:
            read_database_url(self.database_url)
        except ConfigurationError as error:
            return connection.explain_silence(error)
        return None

    def _list_first(self) -> list[Check]:
        settings = self.settings
        return [
            Check("configuration.settings", partial(configuration.check_settings, self.environ, self.wrong_settings)),
            Check("configuration.webhook_secrets", partial(configuration.check_webhook_secrets, settings)),
            Check("configuration.secret_files", partial(configuration.check_secret_files, self.environ)),
            Check("configuration.provider", partial(configuration.check_provider_settings, settings)),
            Check("configuration.data_dir", partial(configuration.check_data_dir, settings, self.thresholds)),
        ]

    def _list_of_database(self, database: Database) -> list[Check]:
        settings, limits, url = self.settings, self.thresholds, database.url
        return [
            self._api_keys(database),
            Check("database.commit", partial(connection.check_commit, database, limits)),
            Check("database.pooler", partial(connection.check_pooler, database)),
            Check("database.encryption", partial(connection.check_encryption, database, url)),
            Check("database.durability", partial(postgres.check_durability, database)),
            Check("database.standby", partial(postgres.check_standby, database)),
            Check("database.connections", partial(sessions.check_connections, database, count_connections(settings))),
            Check("database.session", partial(postgres.check_session, database)),
            Check("database.timeouts", partial(postgres.check_timeouts, database)),
            Check("database.wal", partial(postgres.check_wal, database, limits)),
            Check("database.vacuum", partial(postgres.check_vacuum, database, limits)),
            Check("database.storage", partial(postgres.check_storage, database, self.now())),
            Check("database.sessions", partial(sessions.check_old_sessions, database, limits)),
            Check("database.prepared", partial(sessions.check_prepared_transactions, database, limits)),
            Check("database.slots", partial(sessions.check_replication_slots, database, limits)),
            Check("database.schema", partial(schema.check_schema_version, database)),
            Check("database.role", partial(schema.check_role, database, settings)),
            Check("database.bi_roles", partial(schema.check_bi_roles, database)),
            Check("partitions.months", partial(schema.check_months, database, self.now())),
            Check("partitions.retention", partial(schema.check_retention, database, settings, self.now())),
            Check("clock.database", partial(clock.check_database_clock, database, self.now, limits)),
            Check("work.alarms", partial(work.check_alarms, database)),
            Check("work.waiting", partial(work.check_waiting, database, settings, limits)),
            Check("work.consumers", partial(work.check_consumers, database, limits)),
            Check("webhooks.last", partial(webhooks.check_last_webhooks, database, settings)),
        ]

    def _list_last(self, writable: Database | None) -> list[Check]:
        settings, limits = self.settings, self.thresholds
        checks = [Check("provider.answer", partial(provider.check_provider, settings, writable, self.now, limits))]
        if self.webhook_url is not None:
            look = partial(webhooks.check_public_address, self.webhook_url, settings, self.now, limits)
            checks.append(Check("webhooks.address", look))
        if self.service_url is not None:
            checks.append(Check("service.answer", partial(service.check_service, self.service_url, limits)))
        return checks

    def _api_keys(self, database: Database | None) -> Check:
        return Check("configuration.api_keys", partial(configuration.check_api_keys, self.settings, database))

    async def _reach(self, database: Database) -> list[Told]:
        """Whether it answers at all: everything else about it depends on that."""
        try:
            async with asyncio.timeout(self.thresholds.check_seconds):
                findings = await connection.check_answer(database, self.thresholds)
        except SILENCE as error:  # TimeoutError is an OSError
            findings = [connection.explain_silence(error)]
        return [Told("database.answer", finding) for finding in findings]

    async def _look(self, checks: list[Check]) -> AsyncIterator[Told]:
        for check in checks:
            for finding in await self._look_once(check):
                yield Told(check.name, finding)

    async def _look_once(self, check: Check) -> list[Finding]:
        task = asyncio.ensure_future(check.look())
        done, _ = await asyncio.wait({task}, timeout=self.thresholds.check_seconds)
        if not done:
            task.cancel()  # and not waited for: what hangs may hang at that too
            message = f"No answer within {show_seconds(self.thresholds.check_seconds)}"
            return [problem(message, "See what the other findings have in common: network, disk, locks")]
        try:
            return task.result()
        except asyncpg.InsufficientPrivilegeError:
            return [
                unchecked("Not visible to this role", "Run this as the service's role, after outcomes grant-service")
            ]
        except ABSENT:
            return [unchecked("The schema lacks what is looked at here", "Run `outcomes migrate`")]
        except Exception as error:  # its message may hold anything
            kind = " ".join(filter(None, (type(error).__name__, getattr(error, "sqlstate", None))))
            return [problem(f"The check itself failed ({kind})", "Look at what it is about by hand")]


def _list_secrets(settings: Settings) -> list[str]:
    secrets = [settings.api_key, settings.formant_api_key, settings.bi_password, *settings.webhook_secrets]
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

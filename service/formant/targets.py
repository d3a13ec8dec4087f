"""Targets: the inbound webhook addresses, each with the secrets that sign its webhooks.

The default target is ``/webhooks/formant``. A targets file adds ``/webhooks/formant/NAME`` targets, each with its own
secrets and, where the account is shared, the agents that may report there. ``region`` is the country of phones without
a country code in calls by those agents; for all other agents it is ``OUTCOMES_DEFAULT_REGION``::

    [targets.india]
    secrets = ["new-secret", "old-secret"]
    agents = [123, 124]
    region = "IN"

The file also holds the rules by which calls of an agent suppress people (see ``service.formant.opt_outs``)::

    [agents.123]
    suppress_when = { intent = ["do_not_call", "wrong_number"] }

and those by which calls that name no batch are single or inbound calls (see ``service.formant.kinds``)::

    [targets.reception]
    secrets = ["secret"]
    kind = "inbound"

    [agents.123]
    numbers = ["+918047100123"]
    single_when = { source = ["app"] }
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from phonenumbers import SUPPORTED_REGIONS

from service.errors import ConfigurationError
from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.events import Event, Unreadable, to_unreadable
from service.formant.kinds import KINDS, AgentRules, CallKinds, Kind
from service.formant.opt_outs import OptOuts
from service.formant.regions import Regions
from service.formant.signature import SignatureVerifier
from service.formant.wanted import Wanted
from service.phones.canonical import canonical_phone
from service.phones.parsing import E164
from service.values import clean_secret, explain_unread, read_text_file

DEFAULT_TARGET = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Target:
    """One inbound address. ``verifier`` is None only where unsigned webhooks are explicitly allowed."""

    def __init__(
        self,
        name: str,
        verifier: SignatureVerifier | None,
        agents: frozenset[int] | None = None,
        region: str | None = None,
    ) -> None:
        self.name = name
        self.verifier = verifier
        self.agents = agents
        self.region = region

    def admit(self, item: Event | Unreadable) -> Event | Unreadable:
        """``item`` unchanged, or unreadable where its agent may not report here."""
        if self.agents is None or isinstance(item, Unreadable) or item.agent_id in self.agents:
            return item
        return to_unreadable(item, "agent_not_allowed", "data.call.agent_id")


class _TargetTable(msgspec.Struct, forbid_unknown_fields=True):
    secrets: list[str]
    agents: list[int] | None = None
    region: str | None = None
    kind: str | None = None


class _AgentTable(msgspec.Struct, forbid_unknown_fields=True):
    suppress_when: dict[str, Wanted | list[Wanted]] = {}
    kind: str | None = None
    numbers: list[str] = []
    single_when: dict[str, Wanted | list[Wanted]] = {}


class _TargetsFile(msgspec.Struct, forbid_unknown_fields=True):
    targets: dict[str, _TargetTable] = {}
    agents: dict[str, _AgentTable] = {}


def load_targets(secrets: Sequence[str], *, allow_unsigned: bool, path: Path | None) -> dict[str, Target]:
    """All targets by name. Raises ConfigurationError when no target is configured, or for an invalid file."""
    targets: dict[str, Target] = {}
    if secrets:
        targets[DEFAULT_TARGET] = Target(DEFAULT_TARGET, SignatureVerifier(secrets))
    elif allow_unsigned:
        targets[DEFAULT_TARGET] = Target(DEFAULT_TARGET, None)
    if path is not None:
        targets |= _read_targets(path)
    if not targets:
        raise ConfigurationError(
            "FORMANT_WEBHOOK_SECRET is empty: set it to the secret of the webhook in the provider's dashboard "
            "(or OUTCOMES_ALLOW_UNSIGNED=1 to accept unsigned webhooks in a trial)"
        )
    return targets


def read_secrets(path: Path) -> dict[str, list[str]]:
    """The secrets of each target in a file. Raises ConfigurationError for an invalid file."""
    return {name: table.secrets for name, table in _read_file(path).targets.items()}


def load_opt_outs(path: Path | None) -> OptOuts:
    """The rules by which calls suppress people. Raises ConfigurationError for an invalid file."""
    return OptOuts(
        {
            agent_id: _read_wanted(table.suppress_when, f"{place}.suppress_when", "result")
            for agent_id, place, table in _list_agents(path)
        }
    )


def load_kinds(path: Path | None, regions: Regions) -> CallKinds:
    """The rules by which calls are single or inbound. Raises ConfigurationError for an invalid file."""
    agents = {}
    for agent_id, place, table in _list_agents(path):
        numbers = {text: canonical_phone(text, regions.find(agent_id)) for text in table.numbers}
        for text, number in numbers.items():
            if number is None or not E164.fullmatch(number):
                raise ConfigurationError(
                    f"{place}.numbers: must be phone numbers with country code, such as +918047100123, not {text!r}"
                )
        agents[agent_id] = AgentRules(
            _read_kind(f"{place}.kind", table.kind),
            frozenset(filter(None, numbers.values())),
            _read_wanted(table.single_when, f"{place}.single_when", "call parameter"),
        )
    targets = _read_file(path).targets if path else {}
    kinds = {
        name: kind
        for name, table in targets.items()
        if (kind := _read_kind(f"OUTCOMES_TARGETS_FILE: targets.{name}.kind", table.kind)) is not None
    }
    return CallKinds(kinds, agents)


def _read_kind(place: str, text: str | None) -> Kind | None:
    kind: Kind | None = next((kind for kind in KINDS if kind == text), None)
    if kind is None and text is not None:
        raise ConfigurationError(f"{place}: takes {' or '.join(KINDS)}, not {text!r}")
    return kind


def _list_agents(path: Path | None) -> list[tuple[int, str, _AgentTable]]:
    """The agents of a file, each with its name in messages."""
    agents = []
    for name, table in (_read_file(path).agents if path else {}).items():
        place = f"OUTCOMES_TARGETS_FILE: agents.{name}"
        if not (name.isascii() and name.isdecimal() and len(name) <= 18):
            raise ConfigurationError(f"{place}: must be an agent's id, such as [agents.123]")
        agents.append((int(name), place, table))
    return agents


def _read_wanted(given: dict[str, Wanted | list[Wanted]], place: str, what: str) -> dict[str, list[Wanted]]:
    rules = {key: wanted if isinstance(wanted, list) else [wanted] for key, wanted in given.items()}
    if not all(rules.values()):
        raise ConfigurationError(f"{place}: needs at least one value for each {what}")
    if any(isinstance(value, float) and not math.isfinite(value) for wanted in rules.values() for value in wanted):
        raise ConfigurationError(f"{place}: takes no nan and no inf, which no {what} is")
    return rules


def _read_targets(path: Path) -> dict[str, Target]:
    targets = {
        name: Target(
            name,
            SignatureVerifier(table.secrets),
            None if table.agents is None else frozenset(table.agents),
            _read_region(name, table),
        )
        for name, table in _read_file(path).targets.items()
    }
    find_regions(targets, "")
    return targets


def _read_file(path: Path) -> _TargetsFile:
    try:
        content = msgspec.convert(tomllib.loads(read_text_file(path)), _TargetsFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"OUTCOMES_TARGETS_FILE: {path}: {explain_unread(error)}") from error
    if not content.targets and not content.agents:
        raise ConfigurationError(f"OUTCOMES_TARGETS_FILE: {path}: names no targets and no agents")
    for name, table in content.targets.items():
        if not _NAME.fullmatch(name) or name in {DEFAULT_TARGET, CONVERSATIONS}:
            raise ConfigurationError(
                f"OUTCOMES_TARGETS_FILE: targets.{name}: a name consists of a-z, 0-9, - and _, "
                "and is not 'default' or 'conversations'"
            )
        place = f"OUTCOMES_TARGETS_FILE: targets.{name}.secrets"
        table.secrets = [clean_secret(place, secret) for secret in table.secrets]
        if not table.secrets or not all(table.secrets):
            raise ConfigurationError(f"{place}: needs at least one secret, none of them empty")
    return content


def _read_region(name: str, table: _TargetTable) -> str | None:
    region = table.region.strip().upper() if table.region else None
    if region is not None and region not in SUPPORTED_REGIONS:
        meant = "; the United Kingdom is GB" if region == "UK" else ""
        raise ConfigurationError(
            f"OUTCOMES_TARGETS_FILE: targets.{name}.region: must be a two-letter country code such as "
            f"IN, not {table.region!r}{meant}"
        )
    if region is not None and not table.agents:
        raise ConfigurationError(
            f"OUTCOMES_TARGETS_FILE: targets.{name}.region: needs agents, "
            "since a conversation names its agent but no target"
        )
    return region


def find_regions(targets: Mapping[str, Target], default: str) -> Regions:
    """The region of each agent's phones. Raises ConfigurationError where two targets disagree on an agent's."""
    by_agent: dict[int, str] = {}
    for target in targets.values():
        for agent_id in sorted(target.agents or ()) if target.region else ():
            if by_agent.setdefault(agent_id, target.region or "") != target.region:
                raise ConfigurationError(
                    f"OUTCOMES_TARGETS_FILE: targets.{target.name}.region: agent {agent_id} has another region in "
                    "another target: give it the same in both"
                )
    return Regions(default, by_agent)

"""Kinds of calls: a batch's, single and inbound ones. Agents also place single calls and receive calls. The webhooks of
these come to the same targets, and name no batch either.

A webhook with a batch's reference is a batch's call. For any other, the first rule that applies decides; without one it
may be a batch's call, and is attributed like any event:

1. The target: every call whose webhook comes there is of one kind.
2. The agent's own numbers: a call to one of them is inbound, and so is one from another number, unless the number
   called is not listed either: then the list is incomplete, and decides nothing.
3. The agent's call parameters: a single call has one of the given values.
4. The agent: every other call is of one kind.

The rules stand in the targets file (see ``service.formant.targets``). They are for webhooks only: a conversation has
no parameters, and goes with the call that a webhook reports.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from service.formant.wanted import Wanted, fold, list_folded, read_object
from service.phones.canonical import canonical_phone
from service.phones.parsing import E164

Kind: TypeAlias = Literal["single", "inbound"]
KINDS: tuple[Kind, ...] = ("single", "inbound")


class AgentRules(NamedTuple):
    """The rules of an agent. ``numbers`` are its own, in canonical form."""

    kind: Kind | None = None
    numbers: frozenset[str] = frozenset()
    single_when: Mapping[str, Sequence[Wanted]] = {}


class CallKinds:
    """The rules of all targets and agents."""

    def __init__(self, targets: Mapping[str, Kind], agents: Mapping[int, AgentRules]) -> None:
        self.targets = dict(targets)
        self.agents = {agent_id: rules for agent_id, rules in agents.items() if any(rules)}
        self._singles = {
            agent_id: {name: frozenset(map(fold, wanted)) for name, wanted in rules.single_when.items()}
            for agent_id, rules in self.agents.items()
        }

    def __bool__(self) -> bool:
        return bool(self.targets or self.agents)

    def find(
        self,
        target: str,
        agent_id: int | None,
        from_phone: str | None,
        to_phone: str | None,
        parameters: str,
        region: str = "",
    ) -> tuple[Kind | None, str | None]:
        """The kind of a call that names no batch, and the person's phone; each None if not known. The person of an
        inbound call is the caller, unknown if the number is withheld, and never one of the agent's own numbers.
        ``parameters`` is JSON text."""
        rules = self.agents.get(agent_id, _NONE) if agent_id is not None else _NONE
        caller, called = canonical_phone(from_phone, region), canonical_phone(to_phone, region)
        is_known_caller = bool(caller and E164.fullmatch(caller))
        kind = self.targets.get(target)
        if kind is None and called in rules.numbers:
            kind = "inbound"
        if kind is None and rules.numbers and called is None and is_known_caller and caller not in rules.numbers:
            kind = "inbound"
        if kind is None and rules.single_when and self._is_single(agent_id, parameters):
            kind = "single"
        kind = kind or rules.kind
        if kind != "inbound":
            return kind, called
        # From the agent's own number: the person is the one called after all.
        person = called if caller in rules.numbers else caller if is_known_caller else None
        return kind, None if person in rules.numbers else person

    def _is_single(self, agent_id: int | None, parameters: str) -> bool:
        given = read_object(parameters)
        return any(
            not wanted.isdisjoint(list_folded(given.get(name))) for name, wanted in self._singles[agent_id or 0].items()
        )

    def _list_singles(self, agent_id: int) -> list[tuple[str, list[str]]]:
        return sorted((name, sorted(map(str, wanted))) for name, wanted in self._singles[agent_id].items())

    def describe(self) -> str:
        """The rules as text that is the same for the same rules."""
        return json.dumps(
            [
                sorted(self.targets.items()),
                [
                    [agent_id, rules.kind, sorted(rules.numbers), self._list_singles(agent_id)]
                    for agent_id, rules in sorted(self.agents.items())
                ],
            ]
        )


_NONE = AgentRules()
NO_KINDS = CallKinds({}, {})

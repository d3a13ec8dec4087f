"""Opt-outs: results of calls that mean "do not call again", by rules of an agent. Without a rule nothing is concluded.

A rule names a result and the values that match, such as ``intent = ["do_not_call"]``, as ``wanted`` compares
them. Every event is compared when it comes in, whether by
webhook, conversation or replay, and whether or not a batch is found for it.
"""

from collections.abc import Mapping

from service.formant.events import Event
from service.formant.wanted import Wanted, fold, list_folded, read_object


class OptOuts:
    """The rules of each agent: the values of each result that suppress the person who was called."""

    def __init__(self, rules: Mapping[int, Mapping[str, list[Wanted]]]) -> None:
        self._rules = {
            agent_id: {name: frozenset(map(fold, wanted)) for name, wanted in results.items()}
            for agent_id, results in rules.items()
            if results
        }

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, event: Event) -> str | None:
        """The rule that an event matches, in words; None for none."""
        rules = self._rules.get(event.agent_id) if event.agent_id is not None else None
        results = read_object(event.results) if rules else {}
        for name, wanted in (rules or {}).items():
            for said in list_folded(results.get(name)):
                if said in wanted:
                    return f"results.{name} = {said}"
        return None


NO_OPT_OUTS = OptOuts({})

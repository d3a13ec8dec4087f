"""Opt-outs: results of calls that mean "do not call again", by rules of an agent. Without a rule nothing is concluded.

A rule names a result and the values that match, such as ``intent = ["do_not_call"]``. Text matches whatever its case
and surrounding blanks; a list matches by any of its elements. Every event is compared when it comes in, whether by
webhook, conversation or replay, and whether or not a batch is found for it.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from service.formant.events import Event

Wanted: TypeAlias = str | bool | int


class OptOuts:
    """The rules of each agent: the values of each result that suppress the person who was called."""

    def __init__(self, rules: Mapping[int, Mapping[str, list[Wanted]]]) -> None:
        self._rules = {
            agent_id: {name: frozenset(map(_fold, wanted)) for name, wanted in results.items()}
            for agent_id, results in rules.items()
            if results
        }

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, event: Event) -> str | None:
        """The rule that an event matches, in words; None for none."""
        rules = self._rules.get(event.agent_id) if event.agent_id is not None else None
        results = _read_results(event.results) if rules else {}
        for name, wanted in (rules or {}).items():
            value = results.get(name)
            for each in value if isinstance(value, list) else [value]:
                if _fold(each) in wanted:
                    return f"results.{name} = {_fold(each)}"
        return None


NO_OPT_OUTS = OptOuts({})


def _read_results(text: str) -> dict[str, Any]:
    try:
        results = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return results if isinstance(results, dict) else {}


def _fold(value: Any) -> str | None:
    """A value as it is compared; None for one that matches nothing."""
    if isinstance(value, str):
        return value.strip().casefold()
    return json.dumps(value) if isinstance(value, int) else None

"""Regions: the country of phones written without a country code. It depends on the agent that calls them."""

from collections.abc import Mapping
from types import MappingProxyType

_NONE: Mapping[int, str] = MappingProxyType({})


class Regions:
    """``default`` ("" for none), and the regions of agents that differ from it."""

    def __init__(self, default: str = "", by_agent: Mapping[int, str] = _NONE) -> None:
        self._default = default
        self._by_agent = by_agent
        self.all = tuple(sorted({default, *by_agent.values()} - {""}))
        """All regions in use, sorted."""

    def find(self, agent_id: int | None) -> str:
        """The region of an agent's phones; "" where none is set."""
        return self._default if agent_id is None else self._by_agent.get(agent_id, self._default)

"""What is checked before anything is sent: that this place in the feed was reached with the same mapping, and that the
fields that it names are there.
"""

from collections.abc import Iterable

from service.crm.entries import OPEN_FIELDS, suggest
from service.crm.errors import SyncError
from service.crm.feed import AgentFields, FeedReader, Place
from service.crm.mapping import Mapping
from service.crm.records import list_names


def check_unchanged(place: Place, mapping: Mapping) -> None:
    """Raises SyncError when the consumer came to its place with another mapping: what was sent until then lacks what is
    new in this one. A place without a tag is of an earlier version, which kept none."""
    if place.tag not in {None, mapping.digest()}:
        raise SyncError(
            f"The mapping has changed since {mapping.consumer} came to position {place.position}: what is in the CRM "
            "was sent with another one. --from-start sends everything again; --accept goes on from here with this one"
        )


class FieldCheck:
    """Holds the fields of a mapping against those that the agents' recipients really have, unless they are accepted as
    they are."""

    def __init__(self, feed: FeedReader, mapping: Mapping, *, is_accepted: bool) -> None:
        self._feed = feed
        self._mapping = mapping
        self._is_done = is_accepted

    async def run(self) -> None:
        """Raises SyncError for fields that there are not. Checks once, as soon as there is anything to compare with."""
        if not self._is_done:
            agents = await self._feed.list_fields()
            if faults := find_unknown(self._mapping, agents) if agents else []:
                raise SyncError(
                    f"{'; '.join(faults)}. Nothing was sent. Repair the mapping file; --accept-unknown goes on all the "
                    "same, such as for a result that no call has had yet"
                )
            self._is_done = bool(agents)


def find_unknown(mapping: Mapping, agents: Iterable[AgentFields]) -> list[str]:
    """What is wrong with each field that no agent has, with the nearest that one has."""
    known: dict[str, set[str]] = {"parameters": set(), "results": set()}
    for agent in agents:
        known["parameters"].update(agent.parameters)
        known["results"].update(agent.results)
    fields = {"key.parameter": mapping.key.source} if mapping.key.parameter else {}
    fields |= {f"properties.{name}": rule.field for name, rule in mapping.rules().items()}
    faults = []
    for place, field in fields.items():
        kind, _, name = field.partition(".")
        if kind in OPEN_FIELDS and name not in known[kind]:
            told = "no recipient has" if kind == "parameters" else "no call has had a result"
            what = "columns" if kind == "parameters" else "results"
            faults.append(f"{place}: {told} {name!r}{suggest(name, known[kind])}; {list_names(what, known[kind])}")
    return faults

"""Which batch of the provider's list an upload became: pure rules, without I/O.

A batch *fits* an upload when everything about it is as sent. It *could be* the upload when nothing rules that out: a
provider may drop recipients, change blanks and case of a name, and use another clock. Only a batch that fits is adopted
without a person, and only where no other upload and no other batch can explain it; else calls decide. An unreadable
entry of the list is a batch too, and could be the upload unless its readable fields rule that out.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from service.counts import count
from service.formant.batches import OddEntry, ProviderBatch

CLOCK_SLACK = timedelta(minutes=5)
ZONE_SLACK = timedelta(days=1)
"""A time without a zone may be off by up to 14 hours."""
CALL_SLACK = timedelta(minutes=1)
PEOPLE_OF_PROOF = 2
"""A single person of an upload may have called in on their own; this many did not."""


class Listed(NamedTuple):
    """A batch of the provider's list. None: not given. ``id`` is 0 when it cannot be read."""

    id: int
    agent_id: int | None
    name: str | None
    recipients: int | None
    created_at: datetime | None

    @classmethod
    def read(cls, batch: ProviderBatch | OddEntry) -> Self:
        """From the provider's entry. No batch is empty, so a count of 0 is taken as not given."""
        batch_id = batch.id if isinstance(batch, ProviderBatch) else 0
        return cls(batch_id, batch.agent_id, batch.name, batch.total_recipients or None, batch.created_at)

    def describe(self) -> str:
        """In words, for the person who has to decide."""
        name = "no name" if self.name is None else f"“{self.name[:100]}”"
        count = "an unknown number of" if self.recipients is None else self.recipients
        made = "at an unknown time" if self.created_at is None else self.created_at.isoformat(timespec="seconds")
        return f"{self.id} ({name}, {count} recipients, made {made})"


class Contender(NamedTuple):
    """An upload that may have become a batch. ``first_call_at``: when the first call came that is certainly its own."""

    key: int
    name: str
    recipients: int
    sent_at: datetime | None
    is_sending: bool
    first_call_at: datetime | None = None


class Decision(NamedTuple):
    """The batch to adopt, or None and why not. ``waits``: the answer to another upload will decide."""

    batch_id: int | None
    reason: str = ""
    waits: bool = False


def fold(name: str) -> str:
    """A name as it is compared: blanks trimmed and collapsed, case ignored. Providers may change both."""
    return " ".join(name.split()).casefold()


def fits(upload: Contender, batch: Listed, agent_id: int) -> bool:
    """Whether everything that the provider lists of a batch is as the upload was sent."""
    is_same = (batch.agent_id, batch.name, batch.recipients) == (agent_id, upload.name, upload.recipients)
    return is_same and _is_made_after(batch, upload, CLOCK_SLACK)


def could_be(upload: Contender, batch: Listed) -> bool:
    """Whether a batch may be the upload: it was made since, by any clock, or has its name.

    Its size does not matter: that could only add batches of another name from a day or more before the upload.
    """
    return is_recent(upload, batch) or (batch.name is not None and fold(batch.name) == fold(upload.name))


def is_recent(upload: Contender, batch: Listed) -> bool:
    """Whether a batch was made since the upload was sent, by any clock."""
    return _is_made_after(batch, upload, ZONE_SLACK)


def is_plausible(upload: Contender, batch: Listed) -> bool:
    """Whether a batch looks like the upload: some recipients dropped or one added, its name slightly changed."""
    return (
        is_recent(upload, batch)
        and (batch.name is None or fold(batch.name) == fold(upload.name))
        and (batch.recipients is None or batch.recipients <= upload.recipients + 1)
    )


def decide(
    upload: Contender,
    rivals: Sequence[Contender],
    free: Sequence[Listed],
    agent_id: int,
    *,
    is_contradicted: bool,
    unreadable: Sequence[Listed] = (),
) -> Decision:
    """Which of the ``free`` batches, those of no other upload, the ``upload`` became.

    ``rivals`` are the agent's other uploads without a batch that may have been sent. ``is_contradicted``: there are
    calls that nothing else explains, and none of them is to the upload's people. ``unreadable``: entries of the list.
    """
    fitting = [batch for batch in free if fits(upload, batch, agent_id)]
    if not fitting:
        hidden = [entry for entry in unreadable if could_be(upload, entry)]
        reason = "the provider's list holds no batch that fits it yet"
        return Decision(None, f"{reason}, and {describe_unreadable(len(hidden))}" if hidden else reason)
    contesting = [rival for rival in rivals if any(is_plausible(rival, batch) for batch in fitting)]
    sending = [rival.key for rival in contesting if rival.is_sending]
    if sending:
        return Decision(None, f"upload {sending[0]}, which is being sent, may be it", waits=True)
    looks_like_it = is_recent if contesting else is_plausible
    options = [batch for batch in free if batch in fitting or looks_like_it(upload, batch)]
    pinned = _pin(contesting, free)
    options = [batch for batch in _before_first_call(upload, options) if batch.id not in pinned]
    if len(options) != 1 or options[0] not in fitting:
        return Decision(None, "no single batch is certainly it")
    hidden = _before_first_call(upload, [entry for entry in unreadable if looks_like_it(upload, entry)])
    # Calls prove that it was sent. They also identify the batch, unless a rival or a named entry may explain them.
    if hidden and (upload.first_call_at is None or contesting or any(entry.name is not None for entry in hidden)):
        return Decision(None, describe_unreadable(len(hidden)))
    doubt = _find_doubt(upload, contesting, options[0], is_contradicted=is_contradicted)
    return Decision(None, doubt) if doubt else Decision(options[0].id)


def describe_unreadable(number: int) -> str:
    """Why the list alone does not decide."""
    entries = count(number, "entry", "entries")
    return f"{entries} of the provider's list cannot be read and could be it: look in the provider's dashboard"


def _find_doubt(
    upload: Contender, contesting: Sequence[Contender], batch: Listed, *, is_contradicted: bool
) -> str | None:
    """A reason to doubt the only batch that an upload can be. Its own calls leave no doubt."""
    if upload.first_call_at is not None:
        return None
    rivals = [rival.key for rival in contesting if is_plausible(rival, batch) and _before_first_call(rival, [batch])]
    if rivals:
        return f"another unknown upload is like it ({rivals[0]}), and no calls tell them apart"
    if batch.created_at is None:
        return "the provider does not say when its batch was made, and no calls show whose it is"
    return "calls are being made, and none of them to its people" if is_contradicted else None


def _pin(contenders: Sequence[Contender], free: Sequence[Listed]) -> set[int]:
    """The batches that belong to contenders: for each, the only one from which its first call can have come."""
    pinned: set[int] = set()
    for contender in contenders:
        possible = _before_first_call(contender, [batch for batch in free if is_recent(contender, batch)])
        if contender.first_call_at is not None and len(possible) == 1:
            pinned.add(possible[0].id)
    return pinned


def _before_first_call(contender: Contender, batches: Sequence[Listed]) -> list[Listed]:
    """Those that existed when its first call was made; all of them while it has none."""
    if contender.first_call_at is None:
        return list(batches)
    latest = contender.first_call_at + CALL_SLACK
    return [batch for batch in batches if batch.created_at is None or batch.created_at <= latest]


def _is_made_after(batch: Listed, upload: Contender, slack: timedelta) -> bool:
    return upload.sent_at is None or batch.created_at is None or batch.created_at >= upload.sent_at - slack

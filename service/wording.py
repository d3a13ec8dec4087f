"""What each code means in words: a sentence for people beside the code for programs, made here alone.

``docs/analyse/codes.md`` lists every code with its meaning. A code that is not known here, such as one that a newer
version stored, is shown as it is.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, Protocol, TypeVar

from service.counts import count


class Words(NamedTuple):
    """``sentence`` may hold the names of ``_read_values`` in braces; ``meaning`` explains the code, and what to do."""

    sentence: str
    meaning: str


class Reasoned(Protocol):
    """A reason of a verdict: its code, and the values that it refers to."""

    @property
    def code(self) -> str: ...
    @property
    def figure(self) -> str | None: ...
    @property
    def count(self) -> float | None: ...
    @property
    def recipients(self) -> list[int]: ...
    @property
    def done(self) -> int | None: ...
    @property
    def total(self) -> int | None: ...
    @property
    def expected_at(self) -> datetime | None: ...
    @property
    def ours(self) -> float | None: ...
    @property
    def theirs(self) -> float | None: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def since(self) -> datetime | None: ...


T = TypeVar("T", bound=Reasoned)
MAX_NAMED = 20
"""A reason names at most so many recipients: where it names as many, there may be more."""

VERDICTS = {
    "unverified": Words(
        "Not compared with the provider yet", "The provider's figures are not known, or not all of them."
    ),
    "open": Words(
        "The provider has not finished", "Recipients are in progress or wait for a retry; the figures will change."
    ),
    "settling": Words(
        "The provider has finished, and our figures may still change",
        "The figures differ from the provider's, and the grace period still runs or missing calls are being fetched.",
    ),
    "complete": Words("Final: the figures equal the provider's", "The provider has finished, and all figures agree."),
    "drifted": Words(
        "The figures differ from the provider's",
        "They differ beyond the grace period, and healing has not explained it. The reasons say what was found.",
    ),
}
REASONS = {
    "never_compared": Words("the batch has not been compared yet", "The first comparison comes within a minute."),
    "not_reported": Words(
        "the provider gives no figure for {names}", "Without that figure, the comparison is incomplete."
    ),
    "in_progress": Words("{recipients} {are} in progress", "By the provider's count."),
    "waiting_for_retry": Words("{recipients} {wait} for a retry", "The provider will call them again."),
    "not_all_processed": Words(
        "the provider has not finished {recipients}", "Its finished recipients are fewer than its total."
    ),
    "stuck": Words(
        "nothing has happened to {recipients} {since}, though the provider counts {them} as unfinished",
        "No figure changed and no webhook came for `OUTCOMES_STUCK_SECONDS`. Ask the provider about these recipients.",
    ),
    "within_grace": Words(
        "{figures} {differ}{explained}{when}",
        "The grace period (`OUTCOMES_GRACE_SECONDS`) still runs. Late webhooks may explain what is lower here.",
    ),
    "beyond_grace": Words(
        "{figures} {differ}", "The grace period is over, so late webhooks do not explain the difference."
    ),
    "under_way": Words(
        "{figures} {differ} while calls are under way",
        "The provider counts a retry that is being dialled as in progress; here it waits until its webhook arrives.",
    ),
    "rounding": Words(
        "{figures} {differ} by rounding", "The provider rounds averages and rates; this is no difference."
    ),
    "provider_inconsistent": Words(
        "the provider's own figures contradict each other{contradictions}",
        "`figure` names the rule that they break. It is the provider's error: ask its support.",
    ),
    "more_recipients_than_total": Words(
        "{more} {have} calls here than the provider says the batch has",
        "Its total shrank, or strangers' calls fell into a batch whose CSV is not registered: register it.",
    ),
    "lagging": Words(
        "{lagging} {are} missing here",
        "The provider counted them a grace period ago, so their webhooks are lost; they are healed.",
    ),
    "webhooks_silent": Words(
        "the provider's figures move and no webhooks arrive",
        "Check the agent's webhook target at the provider, and that it reaches this service.",
    ),
    "healing": Words(
        "{progress}{when}",
        "Missing calls are read from the provider's conversations, as fast as its limits allow. Of `total` recipients "
        "whose final outcome was missing here, `done` have it by now.",
    ),
    "spilled": Words(
        "{spilled}",
        "They came while Postgres was away, and are counted as the spill stream is drained. Healing waits for them. "
        "`count` were seen there; 0 while it is only not known that it is empty. `cause`: `waiting` since `since`; "
        "`announced`: a replica may have put some there since then; `unseen`: nobody has looked since then; "
        "`replaced`: another stream is there, and the old one was last seen then.",
    ),
    "healed": Words("{healed} from the provider's conversations", "Their webhooks were lost."),
    "details_outstanding": Words(
        "the results of {calls} are still being fetched{when}",
        "The figures are right without them. Results and goals are not complete yet.",
    ),
    "ambiguous_conversations": Words(
        "{calls} {fit} several recipients", "Nobody guesses: they count for none until evidence decides."
    ),
    "waiting_conversations": Words(
        "{calls} with people of the batch {wait} for evidence of whose they are",
        "They are stored and count for nobody: see `GET /v1/unattributed`. They are placed once they fit.",
    ),
    "conversations_of_nobody_due": Words(
        "{calls} with people of the batch {are} left out, because nobody was due for them",
        "When they began, their recipient or the batch was finished, or the recipient's own calls rule them out: other "
        "calls with the same people, such as single and inbound ones. They are not stored.",
    ),
    "conversations_of_unknown_status": Words(
        "{calls} {have} a status that is not known", "The provider's list uses a word that this version does not know."
    ),
    "conversations_refused": Words(
        "{calls} could not be stored", "The quarantine has them with the reason: `GET /v1/quarantine`."
    ),
    "conversations_list_repeats": Words(
        "the provider's list of conversations repeats itself",
        "The rest of the list could not be read; ask the provider.",
    ),
    "conversations_list_too_long": Words(
        "the provider's list of conversations is too long to read", "The rest of the list could not be read."
    ),
    "calls_unknown_there": Words(
        "calls of {some} are not among the provider's conversations",
        "They came by webhook, and the provider's list, read as a whole, does not have them.",
    ),
    "no_call_known_here": Words(
        "no call of {some} is known here", "The provider has finished these recipients, among others."
    ),
    "waits_for_retry_here": Words(
        "{some} {wait_some} for a retry here", "The provider has finished these recipients, among others."
    ),
}
DIFFERENCES = {
    "within_grace": "Reports of calls may still arrive",
    "beyond_grace": "Not explained yet",
    "under_way": "Calls are under way",
    "rounding": "Rounding only",
    "not_reported": "The provider gives no such figure",
}
"""Why a figure differs, in a cell of a table; the reasons of the verdict say it in full."""
METHODS = {
    "reference": "its reference",
    "recipient": "its phone",
    "window": "being the only open batch",
    "manual": "a person's decision",
}
"""How the recipient of an event was found."""
DISPOSITIONS = {
    "applied": Words("It decides the outcome of its call", "Stored and counted."),
    "superseded": Words(
        "A later event decides its call", "Stored; the outcome comes from a newer event of the same call."
    ),
    "unattributed": Words("It belongs to no recipient yet", "Stored, and tried again whenever that may have changed."),
    "other_call": Words(
        "Its call is in no batch", "A single or inbound call, by the rules of the targets file: see `GET /v1/calls`."
    ),
    "erased": Words("It belonged to a person who is erased", "Only that it was counted is kept."),
    "quarantined": Words(
        "It cannot be used as it came", "Stored byte for byte; after a fix, `outcomes replay` reads it."
    ),
}
UNATTRIBUTED = {
    "no_batch": Words(
        "No batch of the agent has this person waiting for a call",
        "A call outside batches, or of a batch made elsewhere: register its CSV with `PUT …/recipients`.",
    ),
    "ambiguous": Words(
        "Several recipients fit, and nothing decides between them",
        "Nobody guesses. It is placed once evidence decides, such as a registered CSV.",
    ),
}
QUARANTINED = {
    "not_json": Words("The body is not JSON", "Ask the provider."),
    "undecodable": Words(
        "The body's Content-Encoding cannot be decoded",
        "`detail` is the encoding. Upgrade, or raise `OUTCOMES_MAX_BODY_BYTES` if its content is larger; then replay.",
    ),
    "too_deep": Words("The body is nested too deeply to read", "Ask the provider."),
    "not_an_object": Words("The body is not a JSON object", "Ask the provider."),
    "missing_field": Words("A field that names the event or the call is missing", "`detail` names the field."),
    "unusable_field": Words("A field that names the event or the call cannot be used", "`detail` names the field."),
    "unknown_event_type": Words(
        "The event is of a type that is not known", "A newer version may know it: upgrade, replay."
    ),
    "unknown_target": Words(
        "The target that it came by is configured no longer", "Add the target to the targets file again, then replay."
    ),
    "unreadable_message": Words(
        "No webhook: a message in the spill stream that no version of the service wrote",
        "Find out who else writes to the stream, and take that right away.",
    ),
    "refused_by_database": Words("Postgres cannot store a value of the event", "Such as a number with 17,000 digits."),
}
STATES = {
    "in_progress": Words("No call is known yet", "The recipient waits to be called, or is being called."),
    "pending_retry": Words(
        "Will be called again", "The latest call did not reach them, and the provider plans another."
    ),
    "completed": Words("Reached: the call was completed", "The provider's word for connected and ended normally."),
    "busy": Words("The line was busy", "Final: no further call follows."),
    "no_answer": Words("Nobody answered", "Final: no further call follows."),
    "failed": Words("The call could not be set up", "Final: no further call follows."),
    "socket_failure": Words("Connected, but no voice", "The provider's voice streaming did not start. Final."),
    "telephony_failed": Words("The carrier failed", "Final. The provider counts it under `failed_count`."),
    "unreachable": Words("The number could not be reached", "Final: no further call follows."),
    "withdrawn": Words(
        "Taken out of the batch", "Counts for nothing: a registered CSV does not hold them, or they must not be called."
    ),
    "erased": Words("Erased", "The person's data were deleted on request; they still count."),
}
COMPARED = {
    "higher": Words("The right side is higher", "The corrected test and the interval of the difference agree on it."),
    "lower": Words("The right side is lower", "The corrected test and the interval of the difference agree on it."),
    "no_clear_difference": Words(
        "No clear difference", "Chance may explain what there is. Not a proof of equality: look at the interval."
    ),
    "too_few": Words(
        "Too few to say", "Fewer than 30 on a side, or fewer than 5 expected of a kind: wait, or compare more."
    ),
    "unknown": Words("Not known on both sides", "Such as a goal rate without a goal, or while it is being counted."),
}
UNKNOWN_ON = {"left": "Not known on the left", "right": "Not known on the right"}
NO_BATCHES_ON = {
    (True, False): "No batches on the left", (False, True): "No batches on the right",
    (True, True): "No batches on either side",
}  # fmt: skip
"""By whether the left side and the right side have none."""
COMPARISON_NOTES = {
    "no_batches": Words("There are no batches on this side", "The provider created none in that period."),
    "not_final": Words(
        "Figures of this side may still change",
        "Not all of its batches are `complete`. People who wait for a call count as not reached so far.",
    ),
    "goal_being_counted": Words(
        "The goal of this side is being counted", "After a change of the goal; there is no goal rate until then."
    ),
    "callers_being_counted": Words(
        "Calls of this side are still being counted by number", "After an upgrade; numbers have too few until then."
    ),
    "different_goals": Words("The goals are not the same", "The goal rates measure different things."),
}


def describe(words: dict[str, Words], code: str | None) -> str | None:
    """The sentence of a code without values; the code itself where it is not known, None where there is none."""
    if code is None:
        return None
    found = words.get(code)
    return found.sentence if found else code


def describe_note(code: str, side: str | None) -> str:
    """The sentence of a comparison's note, which names its side."""
    sentence = COMPARISON_NOTES[code].sentence
    return sentence.replace("this side", f"the {side} side") if side else sentence


def describe_actor(actor: str) -> str:
    """An actor of the audit log in words: of a key its name, of the key in the settings what it is."""
    if actor == "setting":
        return "The key in OUTCOMES_API_KEY"
    return f"Key {actor.removeprefix('key: ')}" if actor.startswith("key: ") else actor


def note_goal(details_outstanding: int | None) -> str | None:
    """Why the number of those who meet a goal may still grow; None if no results are outstanding."""
    if not details_outstanding:
        return None
    calls = count(details_outstanding, "call")
    return f"The results of {calls} are still being fetched, so more recipients may meet the goal."


def describe_reason(reason: Reasoned, zone: tzinfo = UTC) -> str:
    """The sentence of a reason with its numbers, in small letters and without a full stop, to be joined to others. Its
    times are those of ``zone``."""
    return _describe([reason], zone)


def describe_reasons(reasons: Iterable[T], zone: tzinfo = UTC) -> list[tuple[T, str]]:
    """The sentences of the reasons, each with the first reason that it is about: figures that differ for the same
    reason share one."""
    groups: dict[object, list[T]] = {}
    for reason in reasons:
        is_shared = reason.code in _SHARED
        number = None if is_shared else len(groups)
        groups.setdefault((reason.code, reason.expected_at, _is_more(reason), number), []).append(reason)
    found: dict[str, T] = {}
    for group in groups.values():
        found.setdefault(_describe(group, zone), group[0])
    return [(reason, sentence) for sentence, reason in found.items()]


def describe_verdict(verdict: str, reasons: Iterable[Reasoned]) -> str:
    """The verdict and why, such as ``The provider has not finished: 14 recipients are in progress.``"""
    sentence = describe(VERDICTS, verdict) or ""
    why = "; ".join(text for _, text in describe_reasons(reasons))
    return f"{sentence}: {why}." if why else f"{sentence}."


_SHARED = {"not_reported", "within_grace", "beyond_grace", "under_way", "rounding", "provider_inconsistent", "lagging"}
"""Reasons about figures: several of them share a sentence."""
_CONTRADICTIONS = {
    "total_processed_is_the_sum_of_finals": "it has processed {reported} in total and {expected} by outcome",
    "total_is_processed_in_progress_and_pending": "it has {reported} recipients in total and {expected} by state",
    "success_rate_is_success_of_total": "its success rate is {reported}% where its counts give {expected}%",
}


def _describe(group: Sequence[Reasoned], zone: tzinfo) -> str:
    """The sentence of reasons that share it."""
    found = REASONS.get(group[0].code)
    return found.sentence.format(**_read_values(group, zone)) if found else group[0].code


def _read_values(group: Sequence[Reasoned], zone: tzinfo) -> dict[str, str]:
    reason = group[0]
    number = sum(each.count or 0 for each in group)
    some = len(reason.recipients)
    is_one = number == 1
    return {
        "figures": _join([f"{_name(each)}{_show_sides(each)}" for each in group]),
        "names": _join([_name(each) for each in group]),
        "differ": "differs" if len(group) == 1 else "differ",
        "explained": ", with more here than there" if _is_more(reason) else ", which late webhooks may explain",
        "contradictions": _list_contradictions(group),
        "lagging": _describe_lagging(group, number),
        "progress": _describe_progress(reason.done or 0, reason.total or 0),
        "healed": f"{count(number, 'call')} {'was' if is_one else 'were'} fetched" if number else "no call was fetched",
        "spilled": _describe_spilled(number, reason.cause, _show_time(reason.since, zone) if reason.since else ""),
        "recipients": count(number, "recipient"),
        "calls": count(number, "call"),
        "more": f"{number:,.0f} more {'recipient' if is_one else 'recipients'}",
        "are": "is" if is_one else "are",
        "have": "has" if is_one else "have",
        "wait": "waits" if is_one else "wait",
        "fit": "fits" if is_one else "fit",
        "them": "it" if is_one else "them",
        "some": f"recipient {reason.recipients[0]}" if some == 1 else _count_some(some),
        "wait_some": "waits" if some == 1 else "wait",
        "since": f"since {_show_time(reason.since, zone)}" if reason.since else "for long",
        "when": f" (final about {_show_time(reason.expected_at, zone)})" if reason.expected_at else "",
    }


def _is_more(reason: Reasoned) -> bool:
    """Whether our figure exceeds the provider's, which no late webhook explains."""
    return reason.ours is not None and reason.theirs is not None and reason.ours > reason.theirs


def _name(reason: Reasoned) -> str:
    return (reason.figure or "").removesuffix("_count").replace("_", " ")


def _show_sides(reason: Reasoned) -> str:
    if reason.ours is None or reason.theirs is None:
        return ""
    return f" ({_show_number(reason.ours)} here, {_show_number(reason.theirs)} there)"


def _list_contradictions(group: Sequence[Reasoned]) -> str:
    shown = [
        _CONTRADICTIONS[each.figure].format(reported=_show_number(each.theirs), expected=_show_number(each.count))
        for each in group
        if each.figure in _CONTRADICTIONS and each.theirs is not None and each.count is not None
    ]
    return f": {_join(shown)}" if shown else ""


def _describe_lagging(group: Sequence[Reasoned], number: float) -> str:
    if len(group) == 1:
        return f"{count(number, 'recipient')} that the provider counts as {_name(group[0])}"
    parts = [f"{each.count or 0:,.0f} as {_name(each)}" for each in group]
    return f"{count(number, 'recipient')} that the provider counts ({_join(parts)})"


def _describe_progress(done: int, total: int) -> str:
    if not total:
        return "calls are being looked up in the provider's conversations"
    if not done:
        return f"{count(total, 'missing outcome')} {'is' if total == 1 else 'are'} being looked up"
    if done < total:
        return f"{done:,} of {count(total, 'missing outcome')} {'was' if done == 1 else 'were'} found so far"
    found = "the missing outcome has" if total == 1 else f"all {total:,} missing outcomes have"
    return f"{found} been found, and the rest of the provider's list is being read"


def _describe_spilled(number: float, cause: str | None, since: str) -> str:
    if number:
        waiting = f"{count(number, 'webhook')} {'waits' if number == 1 else 'wait'} to be stored since {since}"
        return f"{waiting}, and their stream was replaced" if cause == "replaced" else waiting
    if cause == "unseen":
        return f"webhooks may wait to be stored: nobody has looked at the stream{f' since {since}' if since else ''}"
    if cause == "replaced":
        return f"webhooks may be lost: their stream was replaced{f' after {since}' if since else ''}"
    if cause == "announced" and since:
        return f"webhooks may wait to be stored: a replica may have put some into the stream since {since}"
    return "webhooks may wait to be stored"


def _count_some(some: int) -> str:
    return f"{MAX_NAMED} or more recipients" if some >= MAX_NAMED else count(some, "recipient")


def _join(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), *parts[-1:]]) if len(parts) > 1 else "".join(parts)


def _show_number(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _show_time(time: datetime, zone: tzinfo) -> str:
    """To the minute: readers have the exact time beside it."""
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")

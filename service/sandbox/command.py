"""The command ``outcomes sandbox``: what it takes, and what its help says. It is done in ``service.sandbox.run``."""

from collections.abc import Sequence
from typing import Any, get_args

import click

from service.sandbox.options import ConversationIds, ConversationsShown, SandboxOptions, UnansweredBlocks

_DEFAULTS = SandboxOptions()
_SHARE = click.FloatRange(0, 1)
_SECONDS = click.FloatRange(min=0)


class _CommaSeparated(click.ParamType[str]):
    """Text; several values in an environment variable are separated by commas, as the service reads them."""

    name = "text"
    envvar_list_splitter = ","


class _Outage(click.ParamType[tuple[float, float]]):
    """``AFTER:SECONDS``."""

    name = "after:seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        after, _, seconds = str(value).partition(":")
        try:
            window = float(after), float(seconds)
        except ValueError:
            self.fail(f"{value!r} is not AFTER:SECONDS, such as 60:400.", param, ctx)
        if not (0 <= window[0] < float("inf") and 0 <= window[1] < float("inf")):
            self.fail("Neither part may be negative or without end.", param, ctx)
        return window


def _flag(name: str, text: str, **settings: Any) -> click.Option:
    kind = settings.get("type")
    if kind is _SHARE or kind is _SECONDS:
        settings.setdefault("metavar", "SHARE" if kind is _SHARE else "SECONDS")
    elif isinstance(kind, click.IntRange | click.FloatRange) or kind is int:
        settings.setdefault("metavar", "N")
    settings.setdefault("show_default", settings.get("default") is not None and "is_flag" not in settings)
    return click.Option([name], help=text, **settings)


def _choice(values: Any) -> click.Choice[str]:
    return click.Choice(get_args(values))


_GROUPS: dict[str, Sequence[click.Option]] = {
    "Where it answers": (
        _flag("--host", "Address to listen on.", default="127.0.0.1"),
        _flag("--port", "Port to listen on; 0 takes a free one.", type=click.IntRange(0, 65535), default=8090),
        _flag(
            "--api-key",
            "A key that is accepted; may be repeated.",
            type=_CommaSeparated(),
            multiple=True,
            default=_DEFAULTS.api_keys,
            envvar="FORMANT_API_KEY",
            show_envvar=True,
        ),
        _flag("--agent", "An agent that exists; may be repeated. None named: all do.", type=int, multiple=True),
    ),
    "Webhooks": (
        _flag("--webhook", "Where webhooks go; up to five times.", metavar="URL", multiple=True),
        _flag(
            "--secret",
            "What webhooks are signed with: one for each --webhook, or one for all. None: unsigned.",
            type=_CommaSeparated(),
            multiple=True,
            envvar="FORMANT_WEBHOOK_SECRET",
            show_envvar=True,
        ),
        _flag("--transcript", "Webhooks carry the transcript.", is_flag=True),
        _flag("--recording", "Webhooks carry the recording's address.", is_flag=True),
        _flag("--delivery-concurrency", "Webhooks at a time.", type=click.IntRange(1), default=32),
        _flag("--delivery-timeout", "Real seconds that a receiver has to answer.", type=_SECONDS, default=10.0),
    ),
    "Calls": (
        _flag("--seed", "Repeats a run: same outcomes and ids. Default: a new one, printed.", type=int),
        _flag("--first-batch-id", "The first batch's id. Default: from the time.", type=click.IntRange(1, 2**31 - 1)),
        _flag(
            "--start",
            "Virtual time (UTC) at the start, such as 2026-03-16T10:30:00. Default: now.",
            type=click.DateTime(),
            metavar="TIME",
        ),
        _flag(
            "--speed",
            "How many times as fast as real time calls, retries and redeliveries go.",
            type=click.FloatRange(min=0, min_open=True),
            default=_DEFAULTS.speed,
        ),
        _flag("--lines", "Calls at a time, per agent.", type=click.IntRange(1), default=_DEFAULTS.lines),
        _flag("--completed-share", "Share of dials that are completed.", type=_SHARE, default=0.5),
        _flag("--max-attempts", "Calls per recipient at most.", type=click.IntRange(1), default=_DEFAULTS.max_attempts),
        _flag(
            "--retry-seconds",
            "Virtual wait after a call nobody answered. Busy waits a third of it, unreachable twice as long.",
            type=_SECONDS,
            default=_DEFAULTS.retry_seconds,
        ),
    ),
    "What the provider's documentation leaves open": (
        _flag(
            "--unanswered",
            "results and retry_context of unanswered calls: present, null, or absent along with retry.",
            type=_choice(UnansweredBlocks),
            default=_DEFAULTS.unanswered,
        ),
        _flag(
            "--conversation-ids",
            "Whether each attempt has an id of its own or all attempts of a recipient share one.",
            type=_choice(ConversationIds),
            default=_DEFAULTS.conversation_ids,
        ),
        _flag(
            "--conversations-shown",
            "Whether conversations are listed once they have ended, or from the dial on.",
            type=_choice(ConversationsShown),
            default=_DEFAULTS.conversations_shown,
        ),
        _flag("--list-totals", "The list of batches carries total and has_more.", is_flag=True),
    ),
    "Limits": (
        _flag("--rate-limit", "Requests per window, for each key.", type=click.IntRange(1), default=50),
        _flag("--rate-window", "Real seconds of a window.", type=click.FloatRange(0, min_open=True), default=1.0),
        _flag("--max-active-batches", "More at a time are refused. Default: no limit.", type=click.IntRange(0)),
    ),
    "Faults (shares from 0 to 1; times are virtual)": (
        _flag("--drop", "Share of events that are never sent.", type=_SHARE, default=0.0),
        _flag("--duplicate", "Share of events that are delivered again later.", type=_SHARE, default=0.0),
        _flag("--delay", "Share of events that set out late.", type=_SHARE, default=0.0),
        _flag("--longest-delay", "Seconds: how late, and how much later a duplicate.", type=_SECONDS, default=900.0),
        _flag("--reorder", "Seconds within which events change places.", type=_SECONDS, default=0.0),
        _flag("--bad-signature", "Share of events with a forged copy beside them.", type=_SHARE, default=0.0),
        _flag(
            "--outage",
            "No delivery arrives for SECONDS, from AFTER seconds after the first dial.",
            type=_Outage(),
            metavar="AFTER:SECONDS",
        ),
        _flag("--api-500", "Share of API requests answered 500.", type=_SHARE, default=0.0),
        _flag("--api-429", "Share of API requests answered 429.", type=_SHARE, default=0.0),
        _flag("--ignore-offset", "Lists begin at their first entry, whatever offset is asked for.", is_flag=True),
        _flag("--always-more", "Lists say has_more on every page.", is_flag=True),
        _flag("--odd-entries", "The list of batches has entries that the contract does not allow.", is_flag=True),
    ),
    "Instead of running": (
        _flag(
            "--print-sample", "Prints a CSV of so many made-up contacts and ends.", metavar="N", type=click.IntRange(1)
        ),
    ),
}


FLAGS: Sequence[click.Option] = [option for group in _GROUPS.values() for option in group]
"""All flags, in the order of the groups."""


class SandboxCommand(click.Command):
    """A command whose ``--help`` shows the flags in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, options in _GROUPS.items():
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            with formatter.section(title):
                formatter.write_dl(records)
        help_option = self.get_help_option(ctx)
        record = help_option.get_help_record(ctx) if help_option is not None else None
        if record is not None:
            formatter.write_dl([record])


_EXAMPLES = """\b
Try it:
  outcomes sandbox --print-sample 200 > contacts.csv
  outcomes sandbox --secret s3cret \\
       --webhook http://127.0.0.1:8080/webhooks/formant
  curl http://127.0.0.1:8090/v1/batch-call \\
       -H "Authorization: Bearer sandbox-key" \\
       -F agent_id=123 -F "name=March Follow Ups" -F file=@contacts.csv
  curl http://127.0.0.1:8090/sandbox        what else it can tell you
"""


@click.command("sandbox", cls=SandboxCommand, params=list(FLAGS), epilog=_EXAMPLES, short_help="Emulate the provider.")
def sandbox(**flags: Any) -> None:
    """Emulates the provider: takes batches, plays their calls on a fast clock, sends signed webhooks.

    Nothing is dialled, no database is needed, and everything is forgotten at the end. It answers the provider's API
    (batch calls, conversations), keeps its rate limit and its rule for sending webhooks again, and does wrong on
    purpose where it is told to. What really happened can be asked for under /sandbox.

    The same --seed gives the same outcomes, conversation ids and event ids for the nth batch of a run. Add
    --first-batch-id and --start for the same batch ids and times. Without --seed nothing ever collides with an
    earlier run.
    """
    from service.sandbox.run import run_sandbox

    run_sandbox(flags)

"""The command ``outcomes sandbox``: its flags and its help. ``service.sandbox.run`` runs it."""

from pathlib import Path
from typing import Any, get_args

import click

from service.sandbox.languages import Language
from service.sandbox.options import ConversationIds, ConversationsShown, SandboxOptions, UnansweredBlocks

_DEFAULTS = SandboxOptions()
_COUNT = click.IntRange(1)
_SHARE = click.FloatRange(0, 1)
_SECONDS = click.FloatRange(min=0)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _CommaSeparated(click.ParamType[str]):
    """Text; commas separate several values in an environment variable, as in the service's settings."""

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
            self.fail("Both parts must be finite and not negative.", param, ctx)
        return window


def _flag(name: str, text: str, field: str = "", **settings: Any) -> click.Option:
    """A flag for the field of ``SandboxOptions`` or ``Faults`` of the same name, unless ``field`` names another."""
    field = field or name.removeprefix("--").replace("-", "_")
    kind = settings.get("type")
    if kind is _SHARE or kind is _SECONDS:
        settings["metavar"] = "SHARE" if kind is _SHARE else "SECONDS"
    elif isinstance(kind, click.IntRange | click.FloatRange) or kind is int:
        settings["metavar"] = "N"
    if hasattr(_DEFAULTS, field):
        settings["default"] = getattr(_DEFAULTS, field)
    settings["show_default"] = settings.get("default") is not None and "is_flag" not in settings
    return click.Option([name, field], help=text, **settings)


def _choice(values: Any) -> click.Choice[str]:
    return click.Choice(get_args(values))


_GROUPS = {
    "Where it answers": (
        _flag("--host", "Address to listen on.", default="127.0.0.1"),
        _flag("--port", "Port to listen on; 0 takes a free one.", type=click.IntRange(0, 65535), default=8090),
        _flag("--tls-cert", "Answer over TLS with this certificate (PEM).", type=_FILE, metavar="FILE"),
        _flag("--tls-key", "Its key (PEM).", type=_FILE, metavar="FILE"),
        _flag(
            "--api-key", "An accepted key; may be repeated.", "api_keys", type=_CommaSeparated(), multiple=True,
            envvar="FORMANT_API_KEY", show_envvar=True,
        ),
        _flag("--agent", "An existing agent; may be repeated. Default: all exist.", type=int, multiple=True),
    ),
    "Webhooks": (
        _flag("--webhook", "Where webhooks are sent; up to five times.", metavar="URL", multiple=True),
        _flag(
            "--secret", "Signs webhooks: one for each --webhook, or one for all. Default: unsigned.",
            type=_CommaSeparated(), multiple=True, envvar="FORMANT_WEBHOOK_SECRET", show_envvar=True,
        ),
        _flag("--transcript", "Webhooks carry the transcript.", is_flag=True),
        _flag("--recording", "Webhooks carry the recording's address.", is_flag=True),
        _flag("--delivery-concurrency", "Maximum number of concurrent webhooks.", type=_COUNT),
        _flag(
            "--delivery-timeout", "Real seconds that a receiver has to answer.", "delivery_timeout_real_seconds",
            type=_SECONDS,
        ),
    ),
    "Calls": (
        _flag("--seed", "Repeats a run: same outcomes and ids. Default: a new one, printed.", type=int),
        _flag("--first-batch-id", "The first batch's id. Default: from the time.", type=click.IntRange(1, 2**31 - 1)),
        _flag(
            "--start", "Virtual time (UTC) at the start, such as 2026-03-16T10:30:00. Default: now.",
            type=click.DateTime(), metavar="TIME",
        ),
        _flag(
            "--speed", "Speed of calls, retries and redeliveries, as a multiple of real time.",
            type=click.FloatRange(min=0, min_open=True),
        ),
        _flag("--lines", "Concurrent calls per agent.", type=_COUNT),
        _flag("--completed-share", "Share of dials that are completed.", type=_SHARE),
        _flag("--other-share", "Share of recipients with whom there is a single or inbound call, too.", type=_SHARE),
        _flag("--caller-numbers", "Numbers that each agent calls from.", type=click.IntRange(1, 100)),
        _flag("--weak-caller", "The last of them connects far less often than the others.", is_flag=True),
        _flag(
            "--language", "A language of the results of calls; may be repeated.", "languages", type=_choice(Language),
            multiple=True,
        ),
        _flag("--max-attempts", "Maximum number of calls per recipient.", type=_COUNT),
        _flag(
            "--retry-seconds",
            "Virtual wait after an unanswered call. Busy waits a third of it, unreachable twice as long.",
            type=_SECONDS,
        ),
    ),
    "What the provider's documentation leaves open": (
        _flag(
            "--unanswered", "results and retry_context of unanswered calls: present, null, or absent along with retry.",
            type=_choice(UnansweredBlocks),
        ),
        _flag(
            "--conversation-ids", "Whether each attempt has its own id, or all attempts of a recipient share one.",
            type=_choice(ConversationIds),
        ),
        _flag(
            "--conversations-shown", "Whether conversations are listed once they have ended, or from the dial on.",
            type=_choice(ConversationsShown),
        ),
        _flag("--list-totals", "The list of batches carries total and has_more.", is_flag=True),
    ),
    "Limits": (
        _flag("--rate-limit", "Requests per window, for each key.", type=_COUNT),
        _flag(
            "--rate-window", "Real seconds of a window.", "rate_window_real_seconds",
            type=click.FloatRange(0, min_open=True),
        ),
        _flag("--max-active-batches", "Maximum number of active batches. Default: no limit.", type=click.IntRange(0)),
    ),
    "Faults (shares from 0 to 1; times are virtual)": (
        _flag("--drop", "Share of events that are never sent.", type=_SHARE, default=0.0),
        _flag("--duplicate", "Share of events that are delivered again later.", type=_SHARE, default=0.0),
        _flag("--delay", "Share of events that are sent late.", type=_SHARE, default=0.0),
        _flag(
            "--longest-delay", "Maximum delay in seconds of an event, and of a duplicate after it.",
            "longest_delay_seconds", type=_SECONDS, default=900.0,
        ),
        _flag("--reorder", "Seconds within which events change places.", "reorder_seconds", type=_SECONDS, default=0.0),
        _flag("--bad-signature", "Share of events that get a forged copy.", type=_SHARE, default=0.0),
        _flag(
            "--outage", "No delivery arrives for SECONDS, starting AFTER seconds after the first dial.", type=_Outage(),
            metavar="AFTER:SECONDS",
        ),
        _flag("--hang", "Share of recipients whose call never ends.", type=_SHARE, default=0.0),
        _flag("--api-500", "Share of API requests answered 500.", type=_SHARE, default=0.0),
        _flag("--api-429", "Share of API requests answered 429.", type=_SHARE, default=0.0),
        _flag("--ignore-offset", "Lists begin at their first entry, whatever the offset.", is_flag=True),
        _flag("--always-more", "Lists say has_more on every page.", is_flag=True),
        _flag("--odd-entries", "The list of batches has entries that the contract does not allow.", is_flag=True),
        _flag("--oldest-first", "The list of conversations begins with the oldest.", is_flag=True),
        _flag("--no-results", "Conversations have no results yet, as if the agent's came late.", is_flag=True),
    ),
    "Instead of running": (_flag("--print-sample", "Print a CSV of N made-up contacts and exit.", type=_COUNT),),
}  # fmt: skip


FLAGS = [option for group in _GROUPS.values() for option in group]


class SandboxCommand(click.Command):
    """A command whose ``--help`` shows the flags in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        help_option = self.get_help_option(ctx)
        for title, options in (_GROUPS | {"Help": (help_option,)} if help_option else _GROUPS).items():
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            with formatter.section(title):
                formatter.write_dl(records)


_EXAMPLES = """\b
Try it:
  outcomes sandbox --print-sample 200 > contacts.csv
  outcomes sandbox --secret s3cret \\
       --webhook http://127.0.0.1:8080/webhooks/formant
  curl http://127.0.0.1:8090/v1/batch-call \\
       -H "Authorization: Bearer sandbox-key" \\
       -F agent_id=123 -F "name=March Follow Ups" -F file=@contacts.csv
  curl http://127.0.0.1:8090/sandbox        what else it offers
"""


@click.command("sandbox", cls=SandboxCommand, params=[*FLAGS], epilog=_EXAMPLES, short_help="Emulate the provider.")
def sandbox(**flags: Any) -> None:
    """Emulate the provider: take batches, play their calls on a fast clock, send signed webhooks.

    Nothing is dialled, no database is needed, and everything is kept in memory only. It answers the provider's API
    (batch calls, conversations), applies its rate limit and its rule for repeating webhooks, and makes faults on
    request. GET /sandbox shows how to query what really happened.

    The same --seed gives the same outcomes, conversation ids and event ids for the nth batch of a run. Add
    --first-batch-id and --start for the same batch ids and times. Without --seed, ids never collide with those of an
    earlier run.
    """
    from service.sandbox.run import run_sandbox

    run_sandbox(flags)

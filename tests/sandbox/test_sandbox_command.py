"""The command ``outcomes sandbox``: its help, its flags, and that it stops on SIGTERM."""

import asyncio
import shlex
import signal
import sys
from dataclasses import fields

import httpx
import pytest
from click.testing import CliRunner

from service.sandbox import Faults, SandboxOptions
from service.sandbox.command import FLAGS, sandbox
from service.sandbox.run import read_faults, read_options

ALL_FLAGS = """
    --agent 5 --webhook http://a --secret s --transcript --seed 1 --first-batch-id 9 --start 2026-03-16 --speed 2
    --lines 3 --completed-share 0.1 --other-share 0.3 --max-attempts 2 --retry-seconds 5 --unanswered null
    --conversation-ids per-recipient --conversations-shown all --list-totals --rate-limit 7 --rate-window 8
    --max-active-batches 4 --delivery-concurrency 6 --delivery-timeout 3 --api-key k --drop 0.1 --duplicate 0.2
    --delay 0.3 --longest-delay 9 --reorder 4 --bad-signature 0.5 --api-500 0.6 --api-429 0.7 --outage 60:400
    --hang 0.8 --ignore-offset --always-more --odd-entries --oldest-first --no-results --caller-numbers 5 --weak-caller
    --language hi --language de
"""


def parse(*arguments: str) -> tuple[SandboxOptions, Faults]:
    flags = sandbox.make_context("sandbox", list(arguments)).params
    return read_options(flags), read_faults(flags)


def test_help_explains_every_flag_under_a_heading() -> None:
    answer = CliRunner().invoke(sandbox, ["--help"])
    assert answer.exit_code == 0
    for flag in FLAGS:
        assert flag.opts[0] in answer.output
        assert flag.help
    for heading in ("Webhooks:", "Calls:", "Limits:", "Faults", "Try it:"):
        assert heading in answer.output


def test_the_flags_defaults_are_the_options_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORMANT_API_KEY", raising=False)
    monkeypatch.delenv("FORMANT_WEBHOOK_SECRET", raising=False)
    options, faults = parse()
    assert options == SandboxOptions()
    assert faults.describe() == Faults().describe()


def test_every_option_and_fault_has_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORMANT_API_KEY", raising=False)
    options, faults = parse(*shlex.split(ALL_FLAGS))
    plain = SandboxOptions()
    unchanged = [item.name for item in fields(options) if getattr(options, item.name) == getattr(plain, item.name)]
    assert unchanged == ["script"]  # for programs: who would write one on a command line?
    kept = [name for name, value in faults.describe().items() if value == Faults().describe()[name]]
    assert kept == ["next_upload"]  # likewise: POST /sandbox/faults
    assert faults.outage == (60.0, 400.0)


def test_secrets_are_paired_with_webhooks_and_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    two = ("--webhook", "http://a", "--webhook", "http://b")
    options, _ = parse(*two, "--secret", "one", "--secret", "two")
    assert [target.secret for target in options.targets] == ["one", "two"]
    options, _ = parse(*two, "--secret", "one")
    assert [target.secret for target in options.targets] == ["one", "one"]
    monkeypatch.setenv("FORMANT_WEBHOOK_SECRET", "new,old")
    monkeypatch.setenv("FORMANT_API_KEY", "key")
    options, _ = parse("--webhook", "http://a")
    assert [target.secret for target in options.targets] == ["new"]
    assert options.api_keys == ("key",)
    options, _ = parse("--webhook", "http://a", "--secret", "")
    assert [target.secret for target in options.targets] == [None]
    assert "new" not in repr(options)


@pytest.mark.parametrize(
    "arguments",
    [["--webhook", "nowhere"], ["--outage", "5"], ["--drop", "2"], ["--speed", "0"], ["--webhook", "http://a"] * 6],
)
def test_invalid_flags_are_refused_with_a_message(arguments: list[str]) -> None:
    answer = CliRunner().invoke(sandbox, arguments)
    assert answer.exit_code == 2
    assert "Error: " in answer.output


def test_a_sample_is_printed_instead_of_running() -> None:
    first, second = (CliRunner().invoke(sandbox, ["--print-sample", "3", "--seed", "1"]).output for _ in range(2))
    assert first == second
    assert first.startswith("customer_phone,")
    assert len(first.splitlines()) == 4


async def test_it_says_what_to_configure_and_ends_cleanly_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from service.sandbox.command import sandbox; sandbox()",
        "--port", "0", "--webhook", "http://127.0.0.1:9/", "--secret", "s3cret", "--api-key", "key",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    while "Ctrl-C" not in said:
        said += (await process.stderr.readline()).decode()
    assert "FORMANT_WEBHOOK_SECRET=s3cret" in said
    base_url = said.split("FORMANT_BASE_URL=")[1].split()[0]
    async with httpx.AsyncClient(base_url=base_url, headers={"Authorization": "Bearer key"}) as client:
        assert (await client.get("/v1/batch-calls")).json() == {"data": []}
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    assert (process.returncode, "stopped" in rest.decode()) == (0, True)

"""``make fuzz TARGET=events SECONDS=60``: coverage-guided fuzzing of what reads bytes from outside, by atheris.

What it has learnt is kept in ``.fuzz/TARGET``, and is where the next run sets out. An input that breaks a promise ends
the run with 1 and is kept as ``.fuzz/TARGET-crash-…``: make it a regression test.
"""

import argparse
import contextlib
import hashlib
import io
import sys
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit(
        "atheris is missing: it is there for Linux on x86_64. make fuzz installs it; elsewhere run it in a container"
    )

FOLDER = Path(__file__).parents[2] / ".fuzz"
NAMES = ("events", "signature", "files", "json", "conversations", "parameters")
LONGEST_BYTES = 4096
HANG_SECONDS = 10


def main() -> None:
    """Fuzzes one target; all of them, one after the other, by ``make fuzz`` without a TARGET."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    with atheris.instrument_imports(include=["service"]), contextlib.redirect_stdout(io.StringIO()):
        from tests.fuzz.targets import TARGETS
    assert set(TARGETS) == set(NAMES)
    target = TARGETS[arguments.target]
    corpus = FOLDER / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def check(data: bytes) -> None:
        target.check(data)

    options = [
        f"-max_total_time={arguments.seconds}", f"-max_len={LONGEST_BYTES}", f"-timeout={HANG_SECONDS}",
        f"-artifact_prefix={FOLDER}/{arguments.target}-", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    print(f"{arguments.target}: {arguments.seconds} s", flush=True)
    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()


main()

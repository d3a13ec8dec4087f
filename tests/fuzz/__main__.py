"""``make fuzz TARGET=events SECONDS=60``: coverage-guided fuzzing, by atheris, of code that reads bytes from outside.

The corpus is kept in ``.fuzz/TARGET``, where the next run starts. An input that breaks a promise ends the run with
status 1 and is saved as ``.fuzz/TARGET-crash-…``: turn it into a regression test.
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
MAX_INPUT_BYTES = 4096
HANG_SECONDS = 10


def main() -> None:
    """Fuzzes one target; ``make fuzz`` without a TARGET runs this for each."""
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
        f"-max_total_time={arguments.seconds}", f"-max_len={MAX_INPUT_BYTES}", f"-timeout={HANG_SECONDS}",
        f"-artifact_prefix={FOLDER}/{arguments.target}-", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    print(f"{arguments.target}: {arguments.seconds} s", flush=True)
    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()


main()

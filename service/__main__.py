"""The entry point of ``outcomes``; ``python -m service`` is the same."""

import sys


def main() -> None:
    """Runs the command line. Ctrl-C ends it with 130, also while it is still being imported."""
    try:
        from service.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as shells report it


if __name__ == "__main__":
    main()

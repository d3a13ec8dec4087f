"""``python -m service`` is ``outcomes``."""

from service.cli import main

main()

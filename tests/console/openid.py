"""A real OpenID provider for the tests: npm's certified ``oidc-provider``, run by Node and asked as a browser would."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

FOLDER = Path(__file__).parent / "oidc_server"
CLIENT_ID = "outcomes"
CLIENT_SECRET = "a client's secret: 100% & more"
PUBLIC_URL = "https://outcomes.example.com"
CALLBACK = f"{PUBLIC_URL}/console/sign-in/callback"
PEOPLE: dict[str, dict[str, Any]] = {
    "asha": {"name": "Asha Rao", "groups": ["analysts", "staff"]},
    "vikram": {"name": "Vikram", "groups": ["ops", "analysts"]},
    "guest": {"name": "Guest", "groups": ["visitors", "<b>"]},
    "nobody": {"name": "Nobody"},
}
_ACTION = re.compile(r'<form[^>]* action="([^"]+)"')
_PROMPT = re.compile(r'name="prompt" value="(\w+)"')


def install_provider() -> Path:
    """The folder of the installed provider: in the cache, where it is installed once. Skips the test without Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("signing in by OpenID Connect is tested against npm's oidc-provider, which needs Node and npm")
    names = ("package.json", "package-lock.json", ".npmrc", "server.js")
    digest = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in names)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "formant-outcomes"
    installed = cache / f"oidc-provider-{digest}"
    if not installed.exists():
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=cache))
        for name in names:
            shutil.copy(FOLDER / name, folder)
        subprocess.run([npm, "ci"], cwd=folder, check=True, capture_output=True, timeout=110)
        try:
            folder.rename(installed)
        except OSError:  # another worker was first
            shutil.rmtree(folder)
    return installed


@contextmanager
def run_provider(*, groups_in_token: bool = False, callback: str = CALLBACK) -> Iterator[str]:
    """Runs the provider while the block lasts; yields its issuer."""
    options = {
        "clientId": CLIENT_ID,
        "clientSecret": CLIENT_SECRET,
        "redirectUri": callback,
        "people": PEOPLE,
        "groupsInToken": groups_in_token,
    }
    command = ["node", "server.js", json.dumps(options)]
    with subprocess.Popen(
        command, cwd=install_provider(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            issuer = process.stdout.readline().strip()
            assert issuer.startswith("http://127.0.0.1:"), issuer
            yield issuer
        finally:
            process.kill()


async def sign_in_at_provider(address: str, person: str) -> dict[str, str]:
    """Goes to the provider as a browser, signs in and agrees; returns the parameters that it sends back."""
    async with httpx.AsyncClient(timeout=30.0) as browser:
        answer = await browser.get(address)
        for _ in range(20):
            if "location" in answer.headers:
                address = urljoin(address, answer.headers["location"])
                if address.startswith(CALLBACK):
                    return dict(httpx.URL(address).params)
                answer = await browser.get(address)
                continue
            action, prompt = _ACTION.search(answer.text), _PROMPT.search(answer.text)
            assert action is not None, answer.text
            assert prompt is not None, answer.text
            address = urljoin(address, action[1])
            answer = await browser.post(address, data={"prompt": prompt[1], "login": person, "password": "any"})
    raise AssertionError("the provider sends the browser around in circles")

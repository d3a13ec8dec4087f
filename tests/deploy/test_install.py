"""The commands of the installation page make a running service of a clean Debian, in a root folder of their own."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.sandbox import SandboxOptions, serve_sandbox
from tests.certificates import make_certificate
from tests.deploy.root_folder import find_namespace, make_command, write_stand_ins
from tests.postgres import PostgresServer, find_programs
from tests.processes import make_environ
from tests.provider import KEY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate" / "install.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE.partition("### On Debian\n")[2].partition("\n### ")[0], re.DOTALL)
PROGRAMS = ("unshare", "useradd", "runuser", "install", "openssl", "curl", "psql")
SECONDS = 150
SHOW_LOG = "trap 'tail -n 5 /var/log/outcomes.log' EXIT\n"
CHECKS = """
set +x
trap - EXIT
stat --format='%a %U:%G %n' /etc/outcomes /etc/outcomes/*
ps -o user= -C outcomes | sort -u | sed 's/^/runs as /'
runuser -u nobody -- outcomes keys list 2>&1 || true
outcomes keys list
"""

pytestmark = [
    pytest.mark.skipif(any(shutil.which(name) is None for name in PROGRAMS), reason=f"needs {', '.join(PROGRAMS)}"),
    pytest.mark.skipif(find_namespace() is None, reason="this machine lets no process have a root folder of its own"),
    pytest.mark.timeout(300),
]


def prepare_release(folder: Path) -> None:
    """What an unpacked release has, and a certificate."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, env=make_environ({}), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    make_certificate(folder, "outcomes", "DNS:outcomes.example.com")
    folder.chmod(0o755)


def adapt(commands: str, provider_url: str, port: int) -> str:
    """The commands with the test's provider, and a port that is free."""
    commands = commands.replace(
        "FORMANT_BASE_URL=https://api.voice.formantai.com",
        f"FORMANT_BASE_URL={provider_url}\nOUTCOMES_PORT={port}",
    )
    commands = commands.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    if shutil.which("nginx") is None:
        commands = re.sub(r"(?m)^(sed .*|nginx) .*\n", "", commands)
    return commands


async def test_the_commands_for_debian_make_a_running_service(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    prepare_release(release)
    server = PostgresServer(find_programs())
    try:
        server.start()
        server.folder.chmod(0o755)
        async with serve_sandbox(SandboxOptions(api_keys=(KEY,))) as sandbox:
            output = await install(server, sandbox.base_url, release)
    finally:
        server.remove()
    assert output.count(", 0 problems\n") == 2, output
    assert output.count("outcomes: using the settings in /etc/outcomes/outcomes.env\n") == 4, output
    assert "2750 root:outcomes /etc/outcomes\n" in output
    files = re.findall(r"^(\d+ \S+) /etc/outcomes/", output, re.MULTILINE)
    assert files == ["640 root:outcomes"] * 4
    assert "runs as outcomes\n" in output
    assert "/etc/outcomes/outcomes.env cannot be read by this user" in output
    assert "│ first │ outcomes… │ admin" in output, output


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def install(server: PostgresServer, provider_url: str, release: Path) -> str:
    """Runs the page's commands; returns all that they print."""
    given = {
        "ADMIN_URL": server.url("postgres"),
        "OWNER_URL": server.url("outcomes").replace("postgres@", "outcomes_owner@"),
        "SERVICE_URL": server.url("outcomes").replace("postgres@", "outcomes_service@"),
        "PROVIDER_KEY": KEY,
    }
    lines = [f"export {name}='{value}'\n" for name, value in given.items()]
    certificates = "install outcomes.pem outcomes.key /etc/ssl/\n"
    commands = adapt("".join(BLOCKS), provider_url, find_port())
    script = "".join([write_stand_ins(), *lines, f"cd {release}\n", SHOW_LOG, certificates, commands, CHECKS])
    shared = {Path(sys.prefix), Path(sys.base_prefix), server.folder, release}
    process = await asyncio.create_subprocess_exec(
        "timeout", "--signal=KILL", str(SECONDS), *make_command(sorted(shared)), env={"TERM": "dumb"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(script.encode())
    assert process.returncode == 0, output.decode()
    return output.decode()


def test_the_page_has_commands_for_every_step() -> None:
    assert len(BLOCKS) == 5

"""Three nodes of Postgres under Patroni, and etcd: as ``deploy/patroni`` sets them up, on the loopback interface."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.eventually import eventually
from tests.postgres import find_memory, find_programs, find_user, make_folder
from tests.provider import find_free_port

ROOT = Path(__file__).parents[2]
PATRONI = ROOT / ".venv" / "patroni" / "bin" / "patroni"
ETCD = shutil.which("etcd")
CONFIGURATION = ROOT / "deploy" / "patroni" / "patroni.yaml"
NODES = ("pg1", "pg2", "pg3")
PASSWORD = "of-the-test"
DATABASE = "postgres"
AUTHENTICATION = {
    f"PATRONI_{who}_{what}": value
    for who, name in (
        ("SUPERUSER", "postgres"), ("REPLICATION", "replicator"), ("REWIND", "rewinder"), ("RESTAPI", "patroni"),
    )
    for what, value in (("USERNAME", name), ("PASSWORD", PASSWORD))
}  # fmt: skip


def find_missing() -> str | None:
    """What this machine lacks for these tests and how to install it; None: nothing."""
    if ETCD is None:
        return "etcd is missing: apt-get install etcd-server"
    if not PATRONI.exists():
        return "Patroni is missing: make patroni"
    return None


async def _start(folder: Path, name: str, *command: str | Path, environ: dict[str, str]) -> asyncio.subprocess.Process:
    """Starts a program that writes its log into the folder, as the user that runs Postgres."""
    user = find_user()
    if user is not None:  # the interpreter of Patroni may be in root's own folder, which others may not enter
        rights = "+dac_read_search"
        command = ("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps", rights,
                   "--ambient-caps", rights, "--", *command)  # fmt: skip
    with (folder / f"{name}.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command, env=os.environ | environ, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )


class Node:
    """One of the nodes: Patroni, and the Postgres that it runs."""

    def __init__(self, name: str, folder: Path, etcd_port: int) -> None:
        self.name = name
        self.port, self._api_port = find_free_port(), find_free_port()
        self.api = f"http://127.0.0.1:{self._api_port}"
        self._folder, self._etcd_port = folder, etcd_port
        self._data = folder / name
        self._process: asyncio.subprocess.Process | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Its environment, as in ``deploy/patroni/node.env.example``."""
        return AUTHENTICATION | {
            "PATRONI_NAME": self.name,
            "PATRONI_ETCD3_HOSTS": f"127.0.0.1:{self._etcd_port}",
            "PATRONI_RESTAPI_LISTEN": f"127.0.0.1:{self._api_port}",
            "PATRONI_RESTAPI_CONNECT_ADDRESS": f"127.0.0.1:{self._api_port}",
            "PATRONI_POSTGRESQL_LISTEN": f"127.0.0.1:{self.port}",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{self.port}",
            "PATRONI_POSTGRESQL_DATA_DIR": str(self._data),
            "PATRONI_POSTGRESQL_BIN_DIR": str(find_programs()),
            "PATRONI_POSTGRESQL_PGPASS": str(self._folder / f"{self.name}.pgpass"),
        }

    async def start(self) -> None:
        """Starts Patroni, which starts Postgres."""
        self._process = await _start(self._folder, self.name, PATRONI, CONFIGURATION, environ=self.environ)

    async def kill(self) -> None:
        """kill -9 of Patroni and all processes of Postgres, as if the machine were gone."""
        assert self._process is not None
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        doomed = [psutil.Process(self._process.pid), postmaster, *postmaster.children(recursive=True)]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await asyncio.to_thread(psutil.wait_procs, doomed, timeout=10)

    async def stop(self) -> None:
        """Stops Patroni, which stops Postgres."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


class Cluster:
    """The nodes by name, and what Patroni says of them."""

    def __init__(self, nodes: dict[str, Node], client: httpx.AsyncClient) -> None:
        self.nodes = nodes
        self._client = client

    @property
    def url(self) -> str:
        """``OUTCOMES_DATABASE_URL`` with all hosts."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes.values())
        return f"postgresql://postgres:{PASSWORD}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    async def read_roles(self) -> dict[str, str]:
        """The role of each running node, such as ``leader`` and ``sync_standby``."""
        for node in self.nodes.values():
            with contextlib.suppress(httpx.HTTPError):
                members: list[dict[str, Any]] = (await self._client.get(f"{node.api}/cluster")).json()["members"]
                return {row["name"]: row["role"] for row in members if row["state"] in {"running", "streaming"}}
        return {}

    async def wait_for_leader(self, *, other_than: str | None = None, nodes: int) -> str:
        """Waits until so many nodes run, one of them as leader and one as its synchronous standby; returns the leader's
        name."""

        def is_ready(roles: dict[str, str]) -> bool:
            leaders = [name for name, role in roles.items() if role == "leader" and name != other_than]
            return bool(leaders) and "sync_standby" in roles.values() and len(roles) >= nodes

        roles = await eventually(self.read_roles, is_ready, seconds=60)
        return str(next(name for name, role in roles.items() if role == "leader"))

    async def switch_over(self, leader: str) -> None:
        """Makes the synchronous standby the leader, as ``patronictl switchover`` does; returns once it is."""
        answer = await self._client.post(
            f"{self.nodes[leader].api}/switchover", json={"leader": leader}, auth=("patroni", PASSWORD)
        )
        assert answer.status_code == 200, answer.text


@asynccontextmanager
async def run_cluster() -> AsyncIterator[Cluster]:
    """A cluster of which every node is ready; it is stopped and removed at the end."""
    folder = make_folder(find_memory())
    client_port, peer_port = find_free_port(), find_free_port()
    client_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    assert ETCD is not None
    etcd = await _start(
        folder, "etcd", ETCD, "--data-dir", folder / "etcd", "--listen-client-urls", client_url,
        "--advertise-client-urls", client_url, "--listen-peer-urls", peer_url,
        "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}", environ={},
    )  # fmt: skip
    nodes = {name: Node(name, folder, client_port) for name in NODES}
    try:
        async with httpx.AsyncClient(timeout=60.0) as client:
            await eventually(lambda: _is_healthy(client, client_url))
            for node in nodes.values():
                await node.start()
            cluster = Cluster(nodes, client)
            await cluster.wait_for_leader(nodes=len(NODES))
            yield cluster
    finally:
        await asyncio.gather(*(node.stop() for node in nodes.values()))
        etcd.terminate()
        await etcd.wait()
        shutil.rmtree(folder)


async def _is_healthy(client: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return bool((await client.get(f"{url}/health")).json() == {"health": "true"})
    return False

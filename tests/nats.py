"""Real NATS servers for the tests, from the wheel: one, or three that replicate."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from tests.eventually import eventually
from tests.postgres import find_memory

PROGRAM = Path(sys.executable).parent / "nats-server"
USER = "outcomes:secret"
_CONFIGURATION = """
server_name: {name}
listen: "127.0.0.1:{port}"
max_payload: 8MB
{cluster}
jetstream {{ store_dir: "{folder}/{name}", sync_interval: {sync}, max_file_store: {size} }}
accounts {{
  SYS {{
    users: [{{ user: system, password: secret }}]
    exports: [{{ service: "$SYS.REQ.SERVER.PING.VARZ", response: stream }}]
  }}
  OUTCOMES {{
    jetstream: enabled
    users: [{{ user: outcomes, password: secret }}]
    imports: [{{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ" }} }}]
  }}
}}
system_account: SYS
"""
_CLUSTER = 'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{routes}] }}'


class NatsServer:
    """One server process with its files."""

    def __init__(self, folder: Path, name: str, port: int, cluster: str, sync: str, size: str) -> None:
        self.name = name
        self.url = f"nats://{USER}@127.0.0.1:{port}"
        self._configuration = folder / f"{name}.conf"
        self._log = folder / f"{name}.log"
        self._store = folder / name
        self._text = partial(
            _CONFIGURATION.format, name=name, port=port, cluster=cluster, folder=folder, size=size, sync=sync
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, **settings: str) -> None:
        """Changes its settings from the next start on, such as ``sync``; without any, they are as at first."""
        self._configuration.write_text(self._text(**settings))

    def lose_files(self) -> None:
        """Removes what it has stored, while it does not run."""
        shutil.rmtree(self._store)

    def start(self) -> None:
        """Starts it, also after a kill."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", self._configuration], stdout=log, stderr=log)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class NatsCluster:
    """Servers that share the stream."""

    def __init__(self, servers: list[NatsServer]) -> None:
        self.servers = servers

    def signal(self, number: int) -> None:
        """Sends a signal to all servers."""
        for server in self.servers:
            server.signal(number)

    @property
    def url(self) -> str:
        """The setting OUTCOMES_SPILL_URL."""
        return ",".join(server.url for server in self.servers)

    async def find_leader(self) -> NatsServer:
        """The server that leads the stream."""
        async with self.connect() as client:
            info = await _read_info(client)
        return next(server for server in self.servers if server.name == info["cluster"]["leader"])

    async def count_messages(self) -> int:
        """How many messages wait in the stream."""
        async with self.connect() as client:
            return int((await _read_info(client))["state"]["messages"])

    async def wait_until_drained(self) -> None:
        """Waits until nothing waits in the stream, even while it has no leader."""
        async with self.connect() as client:

            async def count() -> int | None:
                with contextlib.suppress(nats.errors.Error, OSError, KeyError):
                    return int((await _read_info(client))["state"]["messages"])
                return None

            await eventually(count, lambda messages: messages == 0, seconds=60)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        """A client of its own."""
        client = await nats.connect([server.url for server in self.servers], connect_timeout=1)
        try:
            yield client
        finally:
            await client.close()

    async def wait_until_joined(self) -> None:
        """Waits until each server answers what any of them is asked."""
        async with self.connect() as client:

            async def count() -> int:
                answers = await client.subscribe(client.new_inbox())
                await client.publish("$SYS.REQ.SERVER.PING.VARZ", b"", reply=answers.subject)
                with contextlib.suppress(TimeoutError):
                    for _ in self.servers:
                        await answers.next_msg(timeout=0.5)
                await answers.unsubscribe()
                return answers.delivered

            await eventually(count, lambda delivered: delivered == len(self.servers))

    async def wait_until_ready(self) -> None:
        """Waits until JetStream answers, which needs a leader."""

        async def ask() -> bool:
            with contextlib.suppress(nats.errors.Error, OSError):
                async with self.connect() as client:
                    await client.jetstream(timeout=1).account_info()
                    return True
            return False

        await eventually(ask, bool)


async def _read_info(client: Client) -> dict[str, Any]:
    """The stream as its leader describes it."""
    answer = await client.request("$JS.API.STREAM.INFO.outcomes-spill", b"", timeout=1)
    info: dict[str, Any] = json.loads(answer.data)
    return info


@asynccontextmanager
async def run_nats(count: int = 1, *, sync: str = "always", size: str = "1GB") -> AsyncIterator[NatsCluster]:
    """Runs so many servers until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="outcomes-nats-", dir=find_memory()))
    ports = _find_ports(2 * count)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[count:])
    servers = []
    for number in range(count):
        cluster = _CLUSTER.format(port=ports[count + number], routes=routes) if count > 1 else ""
        servers.append(NatsServer(folder, f"n{number + 1}", ports[number], cluster, sync, size))
    nats_cluster = NatsCluster(servers)
    try:
        for server in servers:
            server.start()
        await nats_cluster.wait_until_ready()
        yield nats_cluster
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder)


def _find_ports(count: int) -> list[int]:
    """Free ports. Another process may take one before it is used, but the kernel hands out others first."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]

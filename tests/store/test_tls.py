"""TLS to Postgres is verified when the address asks for it: the certificate's authority, and its name."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.app import prepare_schema
from service.errors import DatabaseError
from tests.certificates import make_certificate
from tests.postgres import PostgresServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


@asynccontextmanager
async def speak_tls(server: PostgresServer, certificate: Path | None, key: Path | None) -> AsyncIterator[int]:
    """A port at which ``server`` answers with TLS, as one built with it would; without a certificate it has none."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)  # SSLRequest of the protocol
            writer.write(b"S" if certificate else b"N")
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate, key)
                await writer.start_tls(context)
            there, back = await asyncio.open_unix_connection(server.folder / ".s.PGSQL.5432")
            with closing(back):
                await asyncio.gather(pipe(reader, back), pipe(there, writer))

    handlers: list[asyncio.Task[None] | None] = []
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    for handler in filter(None, handlers):
        await handler


async def test_an_address_that_asks_for_it_is_only_believed_with_its_own_certificate(
    postgres: PostgresServer, database_url: str, tmp_path: Path
) -> None:
    database = urlsplit(database_url).path
    right, right_key = make_certificate(tmp_path, "right", "IP:127.0.0.1")
    other, other_key = make_certificate(tmp_path, "other", "IP:127.0.0.1")
    misnamed, misnamed_key = make_certificate(tmp_path, "misnamed", "DNS:elsewhere.example")
    asked = f"sslmode=verify-full&sslrootcert={right}"

    async with speak_tls(postgres, right, right_key) as port:
        await prepare_schema(f"postgresql://postgres@127.0.0.1:{port}{database}?{asked}", may_migrate=False)
    async with speak_tls(postgres, other, other_key) as port:
        with pytest.raises(DatabaseError, match="does not answer"):
            await prepare_schema(f"postgresql://postgres@127.0.0.1:{port}{database}?{asked}", may_migrate=False)
    async with speak_tls(postgres, misnamed, misnamed_key) as port:
        named = f"sslmode=verify-full&sslrootcert={misnamed}"
        with pytest.raises(DatabaseError, match="does not answer"):
            await prepare_schema(f"postgresql://postgres@127.0.0.1:{port}{database}?{named}", may_migrate=False)
    async with speak_tls(postgres, None, None) as port:
        with pytest.raises(DatabaseError, match="does not answer"):
            await prepare_schema(f"postgresql://postgres@127.0.0.1:{port}{database}?{asked}", may_migrate=False)

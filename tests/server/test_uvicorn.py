"""What ``service/server`` overrides of uvicorn, some of it private, is still what it was written against."""

import hashlib
import inspect
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from uvicorn import Config, Server
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.sandbox import serving as sandbox
from service.server import process
from service.server.connection import HttpConnection, QueueingFlow

OURS: dict[type, list[type]] = {
    HttpToolsProtocol: [HttpConnection],
    FlowControl: [QueueingFlow],
    Server: [process._Server, process._BackgroundServer, sandbox._Server],
}
# What is called, built or relied upon as it stands, beside what is overridden.
USED: list[Callable[..., Any]] = [
    HttpToolsProtocol.on_url, HttpToolsProtocol._start_asgi_task, HttpToolsProtocol.resume_writing,
    RequestResponseCycle, Server._serve, Server.startup, Server.on_tick, Config.load,
]  # fmt: skip
DIGESTS: dict[str, str] = {
    "Config.load": "92b7159dce105a9c",
    "FlowControl.__init__": "0152d94a040758b5",
    "FlowControl.resume_reading": "a0429d30857e8488",
    "HttpToolsProtocol.__init__": "4f08999410347141",
    "HttpToolsProtocol._start_asgi_task": "9c08c2571ae9b038",
    "HttpToolsProtocol.connection_lost": "c91a4c9bf2e29c55",
    "HttpToolsProtocol.connection_made": "6efb565ff3d36b91",
    "HttpToolsProtocol.data_received": "010a7ae59a5d3b1a",
    "HttpToolsProtocol.on_body": "dba9c32aeba35b6a",
    "HttpToolsProtocol.on_header": "65d62c044f61fdbd",
    "HttpToolsProtocol.on_headers_complete": "1ea8589acfad92d8",
    "HttpToolsProtocol.on_message_begin": "96d377fdc7c2baef",
    "HttpToolsProtocol.on_message_complete": "1fbad42dc31fc01f",
    "HttpToolsProtocol.on_response_complete": "64e254f28e389e76",
    "HttpToolsProtocol.on_url": "37be44e962b04ca8",
    "HttpToolsProtocol.pause_writing": "17a8fd215d96a13c",
    "HttpToolsProtocol.resume_writing": "7844bbaa8cceb1ef",
    "HttpToolsProtocol.shutdown": "d7351fa33f00d430",
    "RequestResponseCycle": "e67d470d435dcc1c",
    "Server.__init__": "c150b55284f7511e",
    "Server._serve": "4575b7a50adfede8",
    "Server.capture_signals": "e1bbcd4770d1c887",
    "Server.main_loop": "afccb353a119333f",
    "Server.on_tick": "60ea49b06ccf68c1",
    "Server.serve": "112ef41af52167e3",
    "Server.shutdown": "9b33c50562992b1e",
    "Server.startup": "2aa1d70a244bfcf2",
}


def list_watched() -> dict[str, Callable[..., Any]]:
    """By name: what there is of uvicorn's below what is overridden, and what is used."""
    watched = {each.__qualname__: each for each in USED}
    for base, ours in OURS.items():
        for name in {name for one in ours for name in vars(one)} & set(vars(base)):
            if inspect.isfunction(method := inspect.unwrap(vars(base)[name])):
                watched[method.__qualname__] = method
    return watched


@pytest.mark.parametrize("name", sorted({*DIGESTS, *list_watched()}))
def test_what_the_server_overrides_of_uvicorn_has_not_changed(name: str) -> None:
    each = list_watched().get(name)
    assert each is not None, f"{name} is overridden and used no more: remove its digest"
    digest = hashlib.sha256(inspect.getsource(each).encode()).hexdigest()[:16]
    assert digest == DIGESTS.get(name), (
        f"{name} of uvicorn {version('uvicorn')} is not what service/server was written against: compare it with the "
        f"version before, bring what overrides or uses it up to it, and write {digest!r} here"
    )


def test_no_other_uvicorn_is_installed_than_one_of_the_range_that_was_reviewed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (asked,) = [each for each in project["dependencies"] if each.startswith("uvicorn")]
    major, minor, _ = version("uvicorn").split(".")
    assert asked == f"uvicorn>={major}.{minor},<{major}.{int(minor) + 1}"

"""Models and users for the contract suites of `Router` and `Metrics`, in this process and over HTTP.

A model is one callable either way (`Scripted`), so that a suite says what a model does and not how it is reached.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar
from urllib.parse import urlsplit

from modelcd.adapters.memory_traffic import Answer, Backend, MemoryRouter, Reply, Request
from modelcd.adapters.traefik import Doors
from modelcd.ports import Router

DOORS = Doors("the-credential-of-a-test")
"""Who may ask a gateway of a test."""

T = TypeVar("T")

OK = Reply()
FAILING = Reply(status=500)
REFUSING = Reply(status=422)
CUTTING = Reply(cut=True)
SLOW = Reply(seconds=1.0)


@dataclass
class Scripted:
    """A model that replies as it is told, and remembers what reached it."""

    reply: Reply = OK
    requests: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        """Reply."""
        self.requests.append(request)
        return self.reply

    @property
    def legs(self) -> list[str]:
        """How each request got here."""
        return [request.leg for request in self.requests]


class Backends(Protocol):
    """Puts a model at an address that the router under test can reach."""

    def __call__(self, model: Backend) -> str:
        """Serve *model* and return its address."""
        ...


class Send(Protocol):
    """Sends predictions to an endpoint through its public address, one after the other."""

    def __call__(self, endpoint: str, n: int = 1, patience: float = 10.0) -> list[Answer]:
        """Send *n* requests, leaving each after *patience* seconds."""
        ...


def eventually(read: Callable[[], T], expected: object, deadline: float = 5.0) -> T:
    """Return what *read* gives as soon as it is *expected*, or what it gave last after *deadline* seconds."""
    until = time.monotonic() + deadline
    while (value := read()) != expected and time.monotonic() < until:
        time.sleep(0.02)
    return value


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MemoryBackends:
    """Serves models in a `MemoryRouter`."""

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router
        self._count = 0

    def __call__(self, model: Backend) -> str:
        """Serve *model* and return its address."""
        self._count += 1
        address = f"memory://model/{self._count}"
        self._router.serve(address, model)
        return address


def memory_send(router: MemoryRouter) -> Send:
    """Return a `Send` for *router*."""

    def send(endpoint: str, n: int = 1, patience: float = 10.0) -> list[Answer]:
        return [router.send(endpoint, patience=patience) for _ in range(n)]

    return send


def http_send(router: Router) -> Send:
    """Return a `Send` that posts to the public address of *router*."""

    def send(endpoint: str, n: int = 1, patience: float = 10.0) -> list[Answer]:
        address = urlsplit(router.url(endpoint))
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=patience)
        try:
            return [_post(connection, f"{address.path}/predict") for _ in range(n)]
        finally:
            connection.close()

    return send


def _post(connection: http.client.HTTPConnection, path: str) -> Answer:
    try:
        connection.request("POST", path, body=b'{"rows": []}', headers={"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return Answer(0)
    given = response.headers
    return Answer(response.status, given.get("X-Version", ""), given.get("X-Modelcd-Routing", ""), body.decode())


class HttpBackends:
    """Serves models over HTTP on the loopback, all from one thread; use it in a `with` statement.

    Each model answers POST as its callable says and any other method with an empty object, and claims on every
    answer to be a version and a routing that it is not.
    """

    def __enter__(self) -> Self:
        """Start serving."""
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all servers and close what is connected."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __call__(self, model: Backend) -> str:
        """Serve *model* on a port of its own and return its address."""
        return asyncio.run_coroutine_threadsafe(self._serve(model), self._loop).result(10)

    def stop(self, address: str) -> None:
        """Close the server at *address*, so that connections to it are refused."""
        asyncio.run_coroutine_threadsafe(self._stop(urlsplit(address).port), self._loop).result(10)

    async def _serve(self, model: Backend) -> str:
        server = await asyncio.start_server(lambda r, w: _converse(model, r, w), "127.0.0.1", 0)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _stop(self, port: int | None) -> None:
        for server in self._servers:
            if server.is_serving() and server.sockets[0].getsockname()[1] == port:
                server.close()
        await self._hang_up()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        await self._hang_up()

    async def _hang_up(self) -> None:
        talks = [task for task in asyncio.all_tasks() if task.get_name() == _TALK]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


_TALK = "modelcd.testing.traffic"


async def _converse(model: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.set_name(_TALK)
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await _reply(model, head.decode("latin-1"), reader, writer)
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


async def _reply(model: Backend, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    reply = Reply(body={})
    if lines[0].startswith("POST "):
        reply = model(Request(body, *(headers.get(f"x-modelcd-{of}", "") for of in ("leg", "routing", "gateway"))))
        await asyncio.sleep(reply.seconds)
    text = json.dumps(reply.body).encode()
    length = len(text) + 100 if reply.cut else len(text)
    writer.write(
        f"HTTP/1.1 {reply.status} -\r\ncontent-length: {length}\r\ncontent-type: application/json\r\n"
        "x-version: spoofed\r\nx-modelcd-routing: spoofed\r\n\r\n".encode()
        + text
    )
    await writer.drain()
    if reply.cut:
        raise ConnectionResetError

"""What the gateway costs: latency added for one client, requests lost while weights change, price of a look.

Direct and routed requests are measured in turns, because the difference of two medians means something only when both
saw the same machine.  Run: ``python benchmarks/gateway.py [--requests N] [--changes N]``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from modelcd.adapters.memory_traffic import Reply, Request
from modelcd.adapters.traefik import Gateway, TraefikMetrics, TraefikRouter
from modelcd.domain.routing import Arm, Routing
from modelcd.testing.traffic import DOORS, HttpBackends, free_port, http_send

ENDPOINT = "production/bench"


def instant(_: Request) -> Reply:
    """Answer at once."""
    return Reply(seconds=0.0)


def _serve(ready: Connection) -> None:
    with HttpBackends() as backends:
        ready.send([backends(instant), backends(instant)])
        ready.recv()


@contextmanager
def models() -> Iterator[list[str]]:
    """Serve two models from a process of their own and yield their addresses."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        process.join(10)


class Client:
    """One kept connection that sends the same prediction again and again, with as little of Python as possible."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b'{"rows": []}'
        head = f"POST {parts.path}/predict HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body

    def once(self) -> float:
        """Send one request and return how many seconds the whole answer took."""
        before = time.perf_counter()
        self._socket.sendall(self._request)
        answer = b""
        while not answer.endswith(b"null"):
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionError("the connection was closed")
            answer += part
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(answer.decode())
        return time.perf_counter() - before

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def added_latency(router: TraefikRouter, addresses: dict[int, str], requests: int) -> Iterator[tuple[str, str]]:
    """Measure direct and routed requests in turns of 200."""
    router.write(ENDPOINT, Routing((Arm(1, 50.0), Arm(2, 50.0)), fallback=1), addresses)
    clients = {"direct": Client(addresses[1]), "through the gateway": Client(router.url(ENDPOINT))}
    taken: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(max(1, requests // 200)):
        for name, client in clients.items():
            taken[name] += [client.once() for _ in range(200)]
    for client in clients.values():
        client.close()
    for name, seconds in taken.items():
        p99 = statistics.quantiles(seconds, n=100)[98]
        yield f"{name}, p50 / p99", f"{statistics.median(seconds) * 1e3:.3f} / {p99 * 1e3:.3f} ms"
    direct, routed = (statistics.median(seconds) for seconds in taken.values())
    yield "added at the median (aim <= 0.3)", f"{(routed - direct) * 1e3:.3f} ms"


def lost_requests(router: TraefikRouter, addresses: dict[int, str], changes: int) -> Iterator[tuple[str, str]]:
    """Change the weights again and again under the load of four clients."""
    send, ended = http_send(router), threading.Event()
    statuses: Counter[int] = Counter()

    def use() -> None:
        while not ended.is_set():
            statuses.update(answer.status for answer in send(ENDPOINT, 50))

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    took = []
    for number in range(changes):
        share = float(number % 101)
        before = time.perf_counter()
        router.write(ENDPOINT, Routing((Arm(1, 100.0 - share), Arm(2, share)), fallback=1), addresses)
        took.append(time.perf_counter() - before)
    ended.set()
    for user in users:
        user.join()
    yield f"lost of {statuses.total()} requests over {changes} changes (aim 0)", str(statuses.total() - statuses[200])
    yield "a change, written to seen, p50 / max", f"{statistics.median(took) * 1e3:.0f} / {max(took) * 1e3:.0f} ms"


def price_of_a_look(router: TraefikRouter, metrics: TraefikMetrics) -> Iterator[tuple[str, str]]:
    """Time the reads that a tick does."""
    looks: dict[str, Callable[[str], object]] = {"read routing": router.read, "read counters": metrics.counters}
    for name, look in looks.items():
        took = []
        for _ in range(20):
            before = time.perf_counter()
            look(ENDPOINT)
            took.append(time.perf_counter() - before)
        yield f"{name}, p50", f"{statistics.median(took) * 1e3:.1f} ms"


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--changes", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, models() as addresses:
        gateway = Gateway(Path(folder), free_port(), free_port(), DOORS)
        gateway.start()
        try:
            router, known = TraefikRouter(gateway), dict(enumerate(addresses, start=1))
            rows = [
                *added_latency(router, known, given.requests),
                *lost_requests(router, known, given.changes),
                *price_of_a_look(router, TraefikMetrics(gateway)),
            ]
        finally:
            gateway.stop()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The model server against its floor: a bare ASGI function on granian, in one run, in turns.

    python benchmarks/serving.py [--seconds 2] [--turns 5] [--floor array]

Both parse the same JSON with orjson, build a DataFrame and ask the same model, with one worker each and numeric
libraries on one thread.  The floor does nothing else: no checks, no ids, no counts, no probes.  Load comes from a
process of its own over plain sockets.  The two are measured in turns and each ratio is a median of turns, because a
busy machine changes between one measurement and the next, and hardly within a pair of them.  On a machine where
others work as well, believe the processor time per request rather than the rates.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

NAMES = [f"f{k}" for k in range(30)]
CASES = [(1, 1), (16, 1), (1, 100), (16, 100)]
FLOOR = '''
"""The floor: parse, frame, predict, write."""

import os

import joblib
import numpy as np
import orjson
import pandas as pd

model = joblib.load(os.environ["BENCHMARK_MODEL"])
if os.environ["BENCHMARK_FRAME"] == "array":
    names = [f"f{k}" for k in range(30)]
    index = pd.Index(names)

    def frame_of(rows):
        return pd.DataFrame(np.array([[row[name] for name in names] for row in rows]), columns=index)
else:
    frame_of = pd.DataFrame


async def app(scope, receive, send):
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    if not body:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        return
    scores = model.predict_proba(frame_of(orjson.loads(body)["rows"]))[:, 1]
    out = orjson.dumps({"scores": scores.tolist()})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(out)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})
'''


# -- load --------------------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Sends the same request again and again, as soon as it has been answered."""

    def __init__(self, request: bytes, until: float, seconds: list[float]) -> None:
        self.request = request
        self.until = until
        self.seconds = seconds
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take the answer; raises `SystemExit` when it is none with scores."""
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"not measured: {self.received[:300]!r}")
        self.received = b""
        now = time.perf_counter()
        self.seconds.append(now - self.sent)
        if now < self.until:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, _exception: Exception | None) -> None:
        """Say that this connection has ended."""
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for name, _, value in lines if name == b"content-length")


async def load(port: int, connections: int, seconds: float, body: Path) -> dict[str, float]:
    """Ask the server on *port* for *seconds* seconds; return requests per second and latencies in milliseconds."""
    content = body.read_bytes()
    head = f"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}"
    request = f"{head}\r\ncontent-type: application/json\r\n\r\n".encode() + content
    loop, times, begin = asyncio.get_running_loop(), list[float](), time.perf_counter()
    until = begin + seconds
    opened = [
        await loop.create_connection(lambda: Connection(request, until, times), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in opened))
    rate = len(times) / (time.perf_counter() - begin)
    times.sort()
    return {"requests": len(times), "rate": rate, "p99": times[int(len(times) * 0.99)] * 1e3}


# -- the two servers ---------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Fit the model of `reference`: boosting over 30 numbers, 60 iterations; write artifact, floor and bodies."""
    import joblib
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

    from modelcd.artifact import Column, Manifest, write_manifest

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(20_000, len(NAMES))), columns=NAMES)
    truth = (frame["f0"] + frame["f1"] + rng.normal(size=len(frame)) > 0).astype(int)
    joblib.dump(HistGradientBoostingClassifier(max_iter=60).fit(frame, truth), folder / "model.joblib")
    rows = frame.head(100).to_dict("records")
    inputs = tuple(Column(name, "double") for name in NAMES)
    warmup = tuple({str(name): value for name, value in row.items()} for row in rows[:5])
    write_manifest(folder, Manifest("bench", "object", "model.joblib", "predict_proba", inputs, warmup))
    (folder / "floor.py").write_text(FLOOR)
    for n in (1, 100):
        (folder / f"{n}.json").write_text(json.dumps({"rows": rows[:n]}))


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """One of the two that are compared."""

    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """Return the processor seconds that it and its workers have used."""
        times = [process.cpu_times() for process in (self.process, *self.process.children(recursive=True))]
        return sum(float(t.user + t.system) for t in times)


@contextlib.contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[Server]:
    """Run a server until it is no longer needed; yields it once `/readyz` answers 200."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"not started: {' '.join(command)}")
            time.sleep(0.1)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def measure(server: Server, connections: int, seconds: float, body: Path) -> dict[str, float]:
    """Run `load` in a process of its own; adds `cpu`, the server's processor milliseconds per request."""
    before = server.cpu()
    command = [sys.executable, __file__, "--load", str(server.port), str(connections), str(seconds), str(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout)
    return result | {"cpu": (server.cpu() - before) / result["requests"] * 1e3}


def compare(folder: Path, seconds: float, turns: int, frame: str) -> None:
    """Measure both servers in turns and print the table of ratios."""
    floor_port, our_port = free_port(), free_port()
    floor = [sys.executable, "-m", "granian", "--interface", "asginl", "--workers", "1", "--no-ws", "--http", "1"]
    floor += ["--no-log", "--port", str(floor_port), "floor:app"]
    ours = [sys.executable, "-m", "modelcd.serving", str(folder)]
    identity = {"PORT": str(our_port), "MODELCD_MODEL": "bench", "MODELCD_VERSION": "1"}
    path = {"PYTHONPATH": str(folder), "BENCHMARK_MODEL": str(folder / "model.joblib"), "BENCHMARK_FRAME": frame}
    with running(floor, floor_port, **path) as one, running(ours, our_port, **identity) as other:
        print(f"{'':72}  CPU ms/request  p99 ms")
        print(f"connections  rows  floor req/s  ours req/s  {'ratio (turns)':32}   floor    ours   floor    ours")
        for connections, rows in CASES:
            body = folder / f"{rows}.json"
            for server in (one, other):
                measure(server, connections, min(1.0, seconds), body)
            pairs = [[measure(server, connections, seconds, body) for server in (one, other)] for _ in range(turns)]
            print_case(connections, rows, pairs)


def print_case(connections: int, rows: int, pairs: list[list[dict[str, float]]]) -> None:
    """Print one line of the table."""

    def median(which: int, what: str) -> float:
        return statistics.median(pair[which][what] for pair in pairs)

    ratios = sorted(ours["rate"] / floor["rate"] for floor, ours in pairs)
    spread = f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    cells = [f"{connections:11}  {rows:4}  {median(0, 'rate'):11.0f}  {median(1, 'rate'):10.0f}  {spread:32}"]
    cells += [f"{median(which, what):6.2f}" for what in ("cpu", "p99") for which in (0, 1)]
    print("  ".join(cells), flush=True)


def main() -> None:
    """Compare, or be the process that makes the load."""
    parser = argparse.ArgumentParser(description="the model server against its floor")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--turns", type=int, default=5, help="how often each pair is measured")
    parser.add_argument(
        "--floor",
        choices=("records", "array"),
        default="records",
        help="how the floor builds its frame: pandas' own way from records, or, for this model only, by hand",
    )
    parser.add_argument("--load", nargs=4, metavar=("PORT", "CONNECTIONS", "SECONDS", "BODY"), help=argparse.SUPPRESS)
    arguments: Any = parser.parse_args()
    if arguments.load:
        port, connections, seconds, body = arguments.load
        print(json.dumps(asyncio.run(load(int(port), int(connections), float(seconds), Path(body)))))
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        compare(Path(name), arguments.seconds, arguments.turns, arguments.floor)


if __name__ == "__main__":
    main()

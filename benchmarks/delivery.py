"""What a delivery of a tiny model costs, and what is asked every day, each beside the least that would do it by hand.

`first` is the very first delivery of a workspace, which starts its services and makes MLflow's database.  `deliver` and
`nothing new` are the same project, of `modelcd init`, in a workspace that is up; beside them stand a script that fits
the same model, keeps it and starts one server with it, and one that only reads `pipeline.py`.  `down` ends so many
models in staging and in production, beside servers that are told to end all at once; `status` stands beside a bare
interpreter.  Seconds on the clock, and processor time of the command and all that it waited for (not of servers that
outlive it); where other work runs beside, the latter says more.

Run: ``python benchmarks/delivery.py [--rounds N] [--models N]``.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from modelcd.adapters.processes import ProcessRuntime
from modelcd.control import connect
from modelcd.ports import Unit
from modelcd.testing.traffic import free_port
from modelcd.workspace import open_workspace

MODELCD = str(Path(sys.executable).with_name("modelcd"))
PROMISED = {"deliver": 8.0, "nothing new": 1.5, "down": 6.0, "status": 0.4}
"""Seconds that are aimed at on two cores that do nothing else."""

BY_HAND = """
import glob, subprocess, sys, time, urllib.request
sys.path.insert(0, ".")
import joblib, pandas as pd, pipeline
rows = pd.concat(map(pd.read_csv, glob.glob("data/*.csv")))
joblib.dump(pipeline.train(rows), sys.argv[1])
server = subprocess.Popen([sys.executable, "-c", '''
import http.server, joblib, os, pandas, sys
model = joblib.load(sys.argv[1])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), http.server.BaseHTTPRequestHandler).serve_forever()
''', sys.argv[1], sys.argv[2]], stderr=subprocess.DEVNULL)
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:" + sys.argv[2])
    except urllib.error.HTTPError:
        break
    except OSError:
        time.sleep(0.01)
server.kill()
server.wait()
"""

Cost = tuple[float, float]
"""Seconds on the clock, seconds of processor time."""


def cost(command: Sequence[str], folder: Path) -> Cost:
    """Return what *command* takes in *folder*; raises when it fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def fresh(project: Path, number: int) -> None:
    """Change what training depends on, so that the next delivery has a new version to build, under a new name."""
    path = project / "pipeline.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    named = [f'    name="bench-{number}",' if line.strip().startswith("name=") else line for line in lines]
    path.write_text("\n".join(named) + "\n", encoding="utf-8")


@contextmanager
def served(folder: Path, artifact: Path, count: int) -> Iterator[ProcessRuntime]:
    """Run *count* models in each environment of the workspace, recorded in *folder*, until all are ready."""
    runtime = ProcessRuntime(folder)
    try:
        for number in range(count):
            for place in ("staging", "production"):
                name = f"other-{number}"
                runtime.start(Unit(f"{place}/{name}", name, 1, "sha256:bench", artifact, interpreter=sys.executable))
        deadline = time.monotonic() + 120
        for instance in runtime.instances():
            while not ready(instance.address):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{instance.id} is not ready: {runtime.log(instance.id)}")
                time.sleep(0.05)
        yield runtime
    finally:
        for instance in runtime.instances():
            runtime.stop(instance.id)


def ready(address: str) -> bool:
    """Say whether a server is ready."""
    with suppress(OSError):
        return bool(urllib.request.urlopen(f"{address}/readyz").status == 200)
    return False


def ended_at_once(runtime: ProcessRuntime) -> Cost:
    """Return how long the servers of *runtime* take that are told to end all at once."""
    began = time.perf_counter()
    pids = [int(instance.detail.split()[-1]) for instance in runtime.instances() if instance.alive]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    with ThreadPoolExecutor(len(pids)) as pool:
        list(pool.map(lambda instance: runtime.stop(instance.id), runtime.instances()))
    return time.perf_counter() - began, 0.0


def told(name: str, ours: list[Cost], floor: list[Cost], what: str) -> None:
    """Print the medians of *ours* beside those of the *floor*, which is *what*."""
    (wall, used), (least, little) = (
        [statistics.median(column) for column in zip(*c, strict=True)] for c in (ours, floor)
    )
    print(
        f"{name:12} {wall:6.2f} s  (processor {used:5.2f} s, aimed at {PROMISED[name]:.1f} s)"
        f"   {what}: {least:.2f} s  (processor {little:.2f} s)   ratio {wall / least:.1f}"
    )


def main(rounds: int, models: int) -> None:
    """Measure everything in turns and print it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["MODELCD_WORKSPACE"] = str(folder / "workspace")
        python: Callable[..., list[str]] = lambda code, *more: [sys.executable, "-c", code, *more]  # noqa: E731
        cost([MODELCD, "init", "bench"], folder)
        project = folder / "bench"
        try:
            found: dict[str, list[Cost]] = {name: [] for name in (*PROMISED, "hand", "read", "pass", "at once")}
            first = cost([MODELCD, "deliver"], project)
            for number in range(rounds):
                fresh(project, number)
                found["hand"].append(cost(python(BY_HAND, str(folder / "model"), str(free_port())), project))
                found["deliver"].append(cost([MODELCD, "deliver"], project))
                found["read"].append(cost(python("import sys; sys.path.insert(0, '.'); import pipeline"), project))
                found["nothing new"].append(cost([MODELCD, "deliver"], project))
                found["pass"].append(cost(python("pass"), project))
                found["status"].append(cost([MODELCD, "status"], project))
            workspace = open_workspace()
            artifact = next((workspace.path / "registry").rglob("manifest.json")).parent
            with served(folder / "apart", artifact, models) as apart:
                found["at once"].append(ended_at_once(apart))
            with served(workspace.path / "places", artifact, max(0, models - rounds - 1)):
                found["down"].append(cost([MODELCD, "down"], folder))
        finally:
            connect().down()
    print(f"{'first':12} {first[0]:6.2f} s  (processor {first[1]:5.2f} s, without its services)")
    told("deliver", found["deliver"], found["hand"], "fit, keep, start a server")
    told("nothing new", found["nothing new"], found["read"], "import pipeline.py")
    told("status", found["status"], found["pass"], "python -c pass")
    told("down", found["down"], found["at once"], f"{2 * models} servers told to end")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=int, default=8)
    given = parser.parse_args()
    main(given.rounds, given.models)

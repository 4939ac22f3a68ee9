"""Many models in one journal: what reading and ticking cost beside a journal with one model.

The journal is filled with what the engine itself records: for each model, deliveries of `--versions` versions, each
released into staging, and `--releases` canaries in production.  Records are made once over memory adapters and written
for every model through the real journal.  Then, in turns with a journal of one model: `modelcd status`, `modelcd
history` of one model, and a tick of an endpoint at rest (its journal is the real one, its world is in memory).

Run: ``python benchmarks/load.py``; with 1,000 models it needs some minutes and gigabytes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from modelcd.artifact import digest_of
from modelcd.domain.delivery import stream_of
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.records import Entry
from modelcd.domain.versions import Lineage
from modelcd.environments.memory import Memory
from modelcd.platform.environments import Platform
from modelcd.ports import Build
from modelcd.steps.release import Candidate, open_release
from modelcd.steps.tick import tick, tick_on
from modelcd.steps.watch import Watch
from modelcd.workspace import open_workspace

MODEL = "model-0000"
LADDER = Canary(shares=(5, 25, 50), guards=(Guard("errors", GuardKind.ERRORS, margin=0.01),), keep_warm=0.0)
AT_ONCE = Canary(shares=(), keep_warm=0.0)
STEPS = ("data", "prepare", "expectations", "tests", "train", "gates", "staging", "acceptance")


def canaries(folder: Path, releases: int) -> tuple[Memory, list[Entry]]:
    """Return a place in memory in which *releases* canaries were promoted, and what was recorded of them."""
    digests = {}
    for version in range(1, releases + 1):
        artifact = folder / str(version)
        artifact.mkdir()
        (artifact / "model").write_text(str(version))
        digests[version] = digest_of(artifact)
    memory = Memory({digest: lambda rows: [0.5 for _ in rows] for digest in digests.values()})
    env = memory.environment
    for version, digest in digests.items():
        memory.registry.add(Build(MODEL, folder / str(version), digest, Lineage(str(version), "", "")))
        candidate = Candidate(MODEL, version, digest, str(folder / str(version)), "", "snapshot", LADDER)
        watch = open_release(env, candidate, release=f"r{version}", actor="bench", reason="load")
        while watch.endpoint.open is not None:
            tick(env, watch, actor="bench")
            for _ in range(200):
                memory.send(MODEL, {"x": 1})
            memory.clock.sleep(2.0)
        memory.clock.sleep(60.0)
        tick_on(env, watch, actor="bench")
    return memory, [record.entry for record in memory.journal.read(env.stream(MODEL))]


def staged(folder: Path, versions: int) -> list[Entry]:
    """Return what is recorded of *versions* versions that went through staging."""
    folder.mkdir()
    (folder / "model").write_text("staged")
    digest = digest_of(folder)
    memory = Memory({digest: lambda rows: [0.5 for _ in rows]}, name="staging")
    memory.registry.add(Build(MODEL, folder, digest, Lineage("1", "", "")))
    for number in range(versions):
        candidate = Candidate(MODEL, 1, digest, str(folder), "", "snapshot", AT_ONCE)
        watch = open_release(
            memory.environment, candidate, release=f"s{number}", actor="bench", reason="load", again="load"
        )
        tick_on(memory.environment, watch, actor="bench")
        memory.clock.sleep(60.0)
    return [record.entry for record in memory.journal.read(f"staging/{MODEL}")]


def built(versions: int) -> list[Entry]:
    """Return what is recorded of deliveries of *versions* versions."""
    entries, finding = [], {"verdict": "pass", "reason": "as it should be " * 8, "evidence": {"n": 1}, "seconds": 0.1}
    for number in range(1, versions + 1):
        version = {"version": number, "digest": "sha256:0", "artifact": "somewhere", "interpreter": "", "snapshot": ""}
        lineage = asdict(Lineage(str(number), "c", "d", toolchain={"numpy": "2.4.6"}, rows=1000))
        told: list[tuple[str, dict[str, object]]] = [
            ("opened", {"reason": "load", "trigger": "person", "project": "somewhere"}),
            *(("step", {"name": name, **finding}) for name in STEPS),
            ("built", {**version, **lineage, "reused": False}),
            ("proven", {**version, "policies": {}, "findings": [{"name": name, **finding} for name in STEPS]}),
            ("accepted", {"version": number}),
            ("closed", {"ending": "promoted", "why": "as it should be"}),
        ]
        entries += [Entry(kind, "2026-01-01T00:00:00+00:00", "bench", f"d{number}", body) for kind, body in told]
    return entries


def fill(workspace: Path, models: int, streams: dict[str, list[Entry]]) -> int:
    """Write *streams* for each of *models* models; returns how many records there are."""
    journal = Platform(open_workspace(workspace)).environment("production").journal
    for number in range(models):
        for stream, entries in streams.items():
            journal.append(stream.replace(MODEL, f"model-{number:04}"), 0, entries)
    return models * sum(map(len, streams.values()))


def measured(places: dict[str, Path], measure: Callable[[Path], float], rounds: int) -> dict[str, float]:
    """Return the median of *rounds* measurements in each place, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in places}
    for _ in range(rounds):
        for name, place in places.items():
            times[name].append(measure(place))
    return {name: statistics.median(taken) for name, taken in times.items()}


def command(*arguments: str) -> Callable[[Path], float]:
    """Return what measures one command of modelcd."""

    def measure(place: Path) -> float:
        began = time.perf_counter()
        run = [sys.executable, "-m", "modelcd.cli", "--workspace", str(place), *arguments]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    return measure


def ticking(memory: Memory) -> Callable[[Path], float]:
    """Return what measures one tick, by a driver that knows the endpoint, of a model at rest."""

    def measure(place: Path) -> float:
        env = replace(memory.environment, journal=Platform(open_workspace(place)).environment("production").journal)
        watch = Watch(env.stream(MODEL))
        watch.refresh(env)
        tick(env, watch, actor="bench")
        began = time.perf_counter()
        for _ in range(20):
            tick(env, watch, actor="bench")
        return (time.perf_counter() - began) / 20

    return measure


def main(models: int, versions: int, releases: int, rounds: int) -> None:
    """Measure *models* models beside one."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "versions").mkdir()
        memory, production = canaries(place / "versions", releases)
        streams = {
            f"production/{MODEL}": production,
            f"staging/{MODEL}": staged(place / "staged", versions),
            stream_of(MODEL): built(versions),
        }
        places = {"many": place / "many", "one": place / "one"}
        began = time.perf_counter()
        records = fill(places["many"], models, streams)
        fill(places["one"], 1, streams)
        print(f"{models:,} models, {records:,} records, written in {time.perf_counter() - began:.0f} s", flush=True)
        for what, measure in {
            "status": command("status"),
            "history": command("history", MODEL),
            "tick": ticking(memory),
        }.items():
            taken = measured(places, measure, rounds)
            ratio = taken["many"] / taken["one"]
            print(f"{what:8} many {taken['many']:.4f} s   one {taken['one']:.4f} s   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=100)
    parser.add_argument("--releases", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    main(**vars(parser.parse_args()))

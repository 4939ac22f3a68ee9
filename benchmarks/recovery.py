"""Bad days in numbers: what the journal costs, how soon a release is driven again, how soon a bad version is gone.

* The journal: a change of the gateway with its intent and its outcome recorded, beside the same change without.
* A driver that is killed (SIGKILL) in the middle of a canary: seconds until somebody else writes the next record.
* A breach: seconds from the record in which a guard is certain until the gateway is seen to give the challenger
  nothing any more, and from the first answer that failed until then.
* A rollback that a person types, in a canary and after a promotion whose version before is warm: seconds from the start
  of the command, and from its first look, until no user gets the version that is taken out.

Everything is real: processes, Traefik, SQLite with full durability.  Run: ``python benchmarks/recovery.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from release import MODEL, artifact, proven, running

from modelcd.adapters.journal import SqlJournal
from modelcd.control import connect
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.records import Entry, Record
from modelcd.domain.routing import Arm, Routing
from modelcd.platform.environments import Platform
from modelcd.steps.reconcile import ACTOR
from modelcd.workspace import Workspace

GUARDS = (Guard("errors", GuardKind.ERRORS, margin=0.01),)
SLOWLY = Canary(shares=(25,), guards=GUARDS, bake=600.0, keep_warm=0.0)
STREAM = f"production/{MODEL}"
PATIENCE = 90.0


@dataclass
class Users:
    """People who ask with a gap in each row; `failed` holds the moments of answers that the challenger failed at."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    by: list[tuple[float, str, str]] = field(default_factory=list)

    def ask(self) -> None:
        """Ask about fifty times a second until told to stop."""
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while not self.stop.wait(0.02):
                with contextlib.suppress(httpx.HTTPError):
                    answer = client.post(self.url, json={"rows": [{"a": None, "b": 0.25}]})
                    routing, version = (answer.headers.get(f"x-{name}", "") for name in ("modelcd-routing", "version"))
                    self.by.append((time.time(), routing, version))


@contextlib.contextmanager
def asking(url: str) -> Iterator[Users]:
    """Let users ask for the time of the block."""
    users = Users(url)
    thread = threading.Thread(target=users.ask, daemon=True)
    thread.start()
    try:
        yield users
    finally:
        users.stop.set()
        thread.join()


def of_the_journal(workspace: Workspace, changes: int) -> None:
    """Measure a change of the gateway with and without its two records, in turns."""
    env, journal = Platform(workspace).environment("production"), SqlJournal(workspace.path / "scratch.db")
    address = next(i.address for i in env.runtime.instances(STREAM) if i.alive)
    seq, times = 0, dict[str, list[float]]({"with": [], "without": [], "record": []})
    for number in range(2 * changes):
        way = "with" if number % 2 else "without"
        routing = Routing((Arm(1, 100.0),), salt=str(number))
        began = time.perf_counter()
        for moment in ("intended", "", "done"):
            if not moment:
                env.router.write("production/scratch", routing, {1: address})
            elif way == "with":
                before = time.perf_counter()
                entry = Entry(moment, env.clock.now().isoformat(), "bench", "r1", {"routing": routing.to_plain()})
                seq = journal.append("scratch", seq, [entry])[-1].seq
                times["record"].append(time.perf_counter() - before)
        times[way].append(time.perf_counter() - began)
    record, plain, ours = (1e3 * statistics.median(times[name]) for name in ("record", "without", "with"))
    ratio = statistics.median(a / b for a, b in zip(times["with"], times["without"], strict=True))
    print(
        f"journal   one record {record:.2f} ms; a change of the gateway {plain:.0f} ms, recorded {ours:.0f} ms,", end=""
    )
    print(f" ratio {ratio:.2f} (median of the pairs' ratios)", flush=True)


def of_a_killed_driver(workspace: Workspace, version: int) -> float:
    """Return the seconds from the SIGKILL of a driver in a canary to the next record."""
    control, driver = connect(workspace.path), _drive(workspace, version)
    try:
        _until(lambda: ((_line(control)["under_way"] or {}).get("requests") or 0) > 10, "a canary with requests")
        driver.send_signal(signal.SIGKILL)
        killed = time.time()
        driver.wait()
        return _at(_next(workspace, lambda r: r.entry.actor == ACTOR and _at(r) > killed)) - killed
    finally:
        control.rollback(MODEL)


def of_a_breach(workspace: Workspace, version: int, users: Users) -> tuple[float, float]:
    """Return the seconds from certainty to safety, and from the first failed answer to safety, seen by users."""
    began, driver = time.time(), _drive(workspace, version)
    driver.wait(PATIENCE)
    records = [r for r in Platform(workspace).environment("production").journal.read(STREAM) if _at(r) > began]
    certain = next(r for r in records if r.entry.kind == "observed" and r.entry.body["judgement"]["verdict"] == "fail")
    ladder = next(r for r in records if r.entry.kind == "done" and r.entry.body.get("step") == 0)
    canary = Routing.from_plain(dict(ladder.entry.body["routing"])).revision
    under = [moment for moment, revision, _ in users.by if revision == canary]
    safe = next(moment for moment, _, _ in users.by if moment > under[-1])
    return safe - _at(certain), safe - under[0]


def of_a_rollback(workspace: Workspace, users: Users, champion: int) -> tuple[float, float]:
    """Return the seconds until users are safe, from the start of the command and by its own clock."""
    began = time.time()
    run = [sys.executable, "-m", "modelcd.cli", "--workspace", str(workspace.path), "rollback", MODEL, "--json"]
    told = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    bad = [moment for moment, _, version in users.by if moment > began and version != str(champion)]
    return max(bad, default=began) - began, told["safe_after"]


def _drive(workspace: Workspace, version: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "modelcd.cli", "--workspace", str(workspace.path), "promote", MODEL, str(version)]
    nobody = subprocess.DEVNULL
    return subprocess.Popen([*command, "--again", "bench"], stdout=nobody, stderr=nobody)


def _line(control: Any) -> dict[str, Any]:
    return next(line for line in control.status(MODEL) if line["environment"] == "production")


def _at(record: Record) -> float:
    return datetime.fromisoformat(record.entry.at).timestamp()


def _next(workspace: Workspace, wanted: Any) -> Record:
    journal = Platform(workspace).environment("production").journal
    _until(lambda: any(wanted(r) for r in journal.read(STREAM)), "the next record")
    return next(r for r in journal.read(STREAM) if wanted(r))


def _until(true: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.02)


def main(rounds: int, changes: int) -> None:
    """Measure *rounds* bad days and *changes* of the gateway in each way."""
    with tempfile.TemporaryDirectory() as place, running(Path(place)) as workspace:
        good, bad = (artifact(Path(place) / name, seed, seed == 2) for seed, name in ((1, "good"), (2, "bad")))
        first = proven(workspace, good, 1, Canary(shares=()))
        connect(workspace.path).promote(MODEL, first)
        challenger = proven(workspace, artifact(Path(place) / "next", 3), 2, SLOWLY)
        failing = proven(workspace, bad, 3, SLOWLY)
        at_once = proven(workspace, artifact(Path(place) / "at once", 4), 4, Canary(shares=()))
        control = connect(workspace.path)
        of_the_journal(workspace, changes)
        with asking(f"{connect(workspace.path).url(MODEL)}/predict") as users:
            killed = [of_a_killed_driver(workspace, challenger) for _ in range(rounds)]
            print(f"driver    driven again {_told(killed)} after SIGKILL", flush=True)
            breaches = [of_a_breach(workspace, failing, users) for _ in range(rounds)]
            canary, warm = [], []
            for _ in range(rounds):
                driver = _drive(workspace, challenger)
                _until(lambda: ((_line(control)["under_way"] or {}).get("requests") or 0) > 10, "a canary")
                canary.append(of_a_rollback(workspace, users, first))
                driver.wait(PATIENCE)
                control.promote(MODEL, at_once, again="bench")
                warm.append(of_a_rollback(workspace, users, first))
        print(f"breach    0 % {_told([b[0] for b in breaches])} after a guard was certain,", end="")
        print(f" {_told([b[1] for b in breaches])} after the canary's first answer")
        for what, taken in (("in a canary", canary), ("after a promotion", warm)):
            whole, own = ([t[k] for t in taken] for k in (0, 1))
            print(f"rollback  {what}: users safe {_told(whole)} after the command was typed, {_told(own)} by its clock")


def _told(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s (worst of {len(seconds)}: {max(seconds):.2f} s)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--changes", type=int, default=50)
    main(**vars(parser.parse_args()))

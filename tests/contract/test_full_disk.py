"""A full disk, for real: what is written fails as a whole, what was there is kept, and it goes on once there is room.

The small disks are made by mounting, which only root may; elsewhere these tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import stories
from laptops import SERVER, Laptop, ask, in_child, warm

from modelcd.adapters.http import HttpScoring
from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.adapters.processes import ProcessRuntime
from modelcd.adapters.reserve import SIZE, SPARE
from modelcd.adapters.traefik import Gateway, TraefikRouter
from modelcd.artifact import digest_of
from modelcd.domain.records import broken
from modelcd.domain.release import Ask
from modelcd.domain.routing import Arm, Routing
from modelcd.domain.versions import Lineage
from modelcd.environment import Environment
from modelcd.errors import CannotTell, JournalError, RegistryError, RouterError, RuntimeFailure
from modelcd.ports import Build, Unit
from modelcd.serving.predictions import PredictionLog
from modelcd.steps.release import ask as ask_for
from modelcd.steps.release import open_release
from modelcd.steps.rollback import candidate_of
from modelcd.steps.tick import tick
from modelcd.testing.journal import entry
from modelcd.testing.traffic import DOORS, HttpBackends, Scripted, eventually, free_port

STREAM = "production/m"

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
MB = 1_000_000


@dataclass(frozen=True)
class Disk:
    """A small file system at *path*."""

    path: Path

    def fill(self) -> None:
        """Leave no room."""
        with contextlib.suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Make room again."""
        (self.path / "filler").unlink()


@pytest.fixture(params=[2 * SPARE * SIZE])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


small = pytest.mark.parametrize("disk", [12 * MB], indirect=True)


def filled(journal: SqlJournal) -> int:
    """Append until it fails; return how many records there are then."""
    written = len(journal.read(STREAM))
    for _ in range(10_000):
        try:
            written = journal.append(STREAM, written, [entry(text="x" * 10_000)])[-1].seq
        except JournalError:
            break
    with pytest.raises(JournalError, match="the disk is full"):
        journal.append(STREAM, written, [entry(text="x" * 10_000)])
    return written


@small
def test_a_record_that_does_not_fit_is_not_written_and_those_before_are_kept(disk: Disk) -> None:
    journal = SqlJournal(disk.path / "journal.db")
    journal.append(STREAM, 0, [entry()])
    disk.fill()

    written = filled(journal)

    assert [record.seq for record in journal.read(STREAM)] == list(range(1, written + 1))
    assert broken(journal.read(STREAM)) == ""
    disk.free()
    assert journal.append(STREAM, written, [entry()])[-1].seq == written + 1


def test_room_is_kept_for_the_records_of_a_way_back(disk: Disk) -> None:
    journal = SqlJournal(disk.path / "journal.db")
    journal.append(STREAM, 0, [entry()])
    disk.fill()
    filled(journal)
    assert journal.make_room()
    written = len(journal.read(STREAM))

    with journal.exclusive(STREAM):
        for number in range(written, written + 100):
            journal.append(STREAM, number, [entry(text="x" * 1_000)])
    (disk.path / "a small file").write_text("a routing", encoding="utf-8")

    assert len(journal.read(STREAM)) == written + 100
    assert not journal.make_room()


def test_the_room_is_kept_anew_when_there_is_enough_again(disk: Disk) -> None:
    path = disk.path / "journal.db"
    journal = SqlJournal(path)
    journal.append(STREAM, 0, [entry()])
    disk.fill()
    assert journal.make_room()
    assert not (disk.path / "journal.db.reserve").exists()
    disk.free()

    journal.append(STREAM, 1, [entry()])

    assert (disk.path / "journal.db.reserve").stat().st_size == SIZE


def test_a_disk_with_room_keeps_its_reserve(disk: Disk) -> None:
    journal = SqlJournal(disk.path / "journal.db")
    journal.append(STREAM, 0, [entry()])

    assert not journal.make_room()


def test_a_canary_on_a_full_disk_steps_up_no_further_and_can_go_back(disk: Disk, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    gateway = Gateway(disk.path / "gateway", free_port(), free_port(), DOORS)
    laptop = Laptop(disk.path / "w", gateway, script)
    laptop.folder.mkdir()
    warm(tmp_path / "warm")
    gateway.start()

    def bind(name: str) -> Environment:
        env = laptop.environment(name)
        assert isinstance(env.journal, SqlJournal)
        return replace(env, make_room=env.journal.make_room)

    def rounds() -> None:
        stories.rounds({name: bind(name) for name in stories.ENVIRONMENTS}, most=40)

    def canary() -> None:
        stage = stories.Stage(bind, laptop.folder, interpreter="")
        stories.begin("promote", stage, rounds, print, laptop.log)
        env = bind("production")
        watch = open_release(env, candidate_of(env, stories.MODEL, 2), release="r2", actor="anna", reason="")
        while watch.endpoint.releases[-1].share < 50:
            tick(env, watch, actor="anna")
            env.clock.sleep(0.05)

    def go_back() -> None:
        ask_for(bind("production"), stories.MODEL, Ask.ROLL_BACK, actor="bob", reason="complaints")

    try:
        in_child(canary, 120.0)
        control = as_open(laptop.folder / "journal" / "journal.db")
        router = TraefikRouter(gateway)
        disk.fill()
        for _ in range(100):
            assert ask(gateway.port, stories.STREAM).status == 200
        in_child(rounds, 120.0)
        routing = router.read(stories.STREAM)
        assert routing is not None
        assert routing.share(2) == 50

        in_child(go_back)
        in_child(rounds, 120.0)

        assert router.read(stories.STREAM) == Routing.all_to(1, keeping=(2,)) or router.read(
            stories.STREAM
        ) == Routing.all_to(1)
        assert ask(gateway.port, stories.STREAM).status == 200
        control.kill()
        control.communicate()
    finally:
        laptop.clear()
        gateway.stop()


def as_open(path: Path) -> subprocess.Popen[str]:
    """Return a process that has the database at *path* open, as the control process of a workspace has."""
    code = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM records").fetchone(), flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_gateway_that_cannot_be_told_serves_on_as_it_was(disk: Disk) -> None:
    with HttpBackends() as backends:
        addresses = {version: backends(Scripted()) for version in (1, 2)}
        gateway = Gateway(disk.path / "gateway", free_port(), free_port(), DOORS)
        router, before, after = TraefikRouter(gateway), Routing.all_to(1), Routing((Arm(1, 50.0), Arm(2, 50.0)))
        gateway.start()
        try:
            router.write(STREAM, before, addresses)
            disk.fill()

            with pytest.raises(RouterError, match="No space left"):
                router.write(STREAM, after, addresses)

            assert router.read(STREAM) == before
            disk.free()
            router.write(STREAM, after, addresses)
            assert router.read(STREAM) == after
        finally:
            gateway.stop()


def artifact(folder: Path, size: int = 10) -> Path:
    """Write a version's folder."""
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(os.urandom(size))
    return folder


def test_a_version_that_does_not_fit_is_no_version(disk: Disk, tmp_path: Path) -> None:
    registry = MlflowRegistry(f"sqlite:///{disk.path}/mlflow.db", disk.path / "files")
    small, large = artifact(tmp_path / "small"), artifact(tmp_path / "large", MB)
    registry.add(Build("m", small, digest_of(small), Lineage("1", "", "")))
    build = Build("m", large, digest_of(large), Lineage("2", "", ""))
    disk.fill()

    with pytest.raises(RegistryError):
        registry.add(build)
    disk.free()

    assert [version.number for version in registry.versions("m")] == [1]
    assert registry.add(build).number == 2
    assert digest_of(registry.fetch("m", 2)) == build.digest


def test_a_model_that_cannot_be_recorded_is_not_started(disk: Disk, tmp_path: Path) -> None:
    folder = artifact(tmp_path / "artifact")
    runtime = ProcessRuntime(disk.path / "places", lambda _: [sys.executable, "-c", "import time; time.sleep(60)"])
    unit = Unit(STREAM, "m", 1, digest_of(folder), folder)
    (disk.path / "places").mkdir()
    disk.fill()

    with pytest.raises(RuntimeFailure):
        runtime.start(unit)

    disk.free()
    assert not any(instance.alive for instance in runtime.instances())
    started = runtime.start(unit)
    assert started.alive
    runtime.stop(started.id)


def test_predictions_wait_for_room_and_none_is_lost(disk: Disk) -> None:
    path = disk.path / "1.jsonl"
    log = PredictionLog(path, "m", "1")
    disk.fill()
    for number in range(1_000):
        log.add((f"p{number}", 0.0, "r", "main", [0.5]))
    eventually(lambda: bool(log._rest), True)
    disk.free()

    log.close()

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [f"p{number}" for number in range(1_000)]
    assert log.lost == 0


def test_a_model_that_prints_onto_a_full_disk_answers_on(tmp_path: Path) -> None:
    server = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked")
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"model": "m", "version": "1"}')
from modelcd.serving.telemetry import tolerate
tolerate()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
    port = free_port()
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen([sys.executable, "-u", "-c", server, str(port)], stdout=full, stderr=full)
    try:

        def ready() -> bool:
            with contextlib.suppress(CannotTell):
                return bool(HttpScoring().ready(f"http://127.0.0.1:{port}"))
            return False

        eventually(ready, True)
    finally:
        process.kill()
        process.wait()

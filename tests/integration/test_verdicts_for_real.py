"""The judge's word on real traffic: a version worse by twice the tolerance goes back, one that is alike is promoted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import stories
from laptops import SERVER, Laptop, ask, in_child, warm

from modelcd.adapters.traefik import Gateway
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.release import Release
from modelcd.explaining import verified
from modelcd.flows import deliver as flows
from modelcd.steps.release import open_release
from modelcd.steps.tick import tick
from modelcd.testing.traffic import DOORS, free_port

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # it is, and waits
]

TOLERATED = 0.05
POLICY = Canary(shares=(25, 50), guards=(Guard("errors", GuardKind.ERRORS, TOLERATED),), keep_warm=0.0, warm_up=0)

FAILING = SERVER.replace(
    "    def do_POST(self):\n",
    """    def do_POST(self):
        # Every tenth request of the version that the file names fails, wherever it serves users.
        fails = open(sys.argv[0] + ".fails").read() if os.path.exists(sys.argv[0] + ".fails") else ""
        asked.append(0) if fails == me["version"] else None
        if fails == me["version"] and len(asked) % 10 == 0:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            return self.say(500, {"error": "one in ten"})
""",
)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    script = tmp_path / "server.py"
    script.write_text(FAILING)
    warm(tmp_path / "warm")
    gateway = Gateway(tmp_path / "gateway", free_port(), free_port(), DOORS)
    gateway.start()
    laptop = Laptop(tmp_path / "workspace", gateway, script)
    try:
        yield laptop
    finally:
        laptop.clear()
        gateway.stop()


def lived(laptop: Laptop, failing: str) -> tuple[Release, set[int], bool]:
    """Release version 2 to users who ask all the time; return how it went, what they got, and whether it verifies."""
    stage = stories.Stage(laptop.environment, laptop.folder, interpreter="")
    stories.begin("promote", stage, partial(stories.rounds, laptop.environments()), print, laptop.log)
    Path(f"{laptop.script}.fails").write_text(failing)
    env = laptop.environment("production")
    candidate = replace(flows.candidate_of(env, stories.MODEL, 2), policy=POLICY)
    watch = open_release(env, candidate, release="r2", actor="anna", reason="")
    statuses: set[int] = set()
    stop = threading.Event()

    def users() -> None:
        while not stop.wait(0.002):
            statuses.add(ask(laptop.gateway.port, stories.STREAM).status)

    asking = [threading.Thread(target=users, daemon=True) for _ in range(2)]
    for one in asking:
        one.start()
    deadline = time.monotonic() + 100
    while watch.endpoint.releases[-1].ending is None and time.monotonic() < deadline:
        tick(env, watch, actor="anna")
        env.clock.sleep(0.25)
    stop.set()
    for one in asking:
        one.join()
    told = verified(stories.STREAM, "r2", env.journal.read(stories.STREAM), "")
    return watch.endpoint.releases[-1], statuses, bool(told["same"])


def test_a_version_that_is_alike_is_promoted(laptop: Laptop) -> None:
    release, statuses, same = in_child(partial(lived, laptop, ""), 150.0)[1]

    assert (release.ending, statuses, same) == ("promoted", {200}, True)


def test_a_version_worse_by_twice_the_tolerance_goes_back_and_no_user_sees_it(laptop: Laptop) -> None:
    release, statuses, same = in_child(partial(lived, laptop, "2"), 150.0)[1]

    assert (release.ending, statuses, same) == ("rolled back", {200}, True)
    assert "errors" in release.closing["reason"]
    assert release.exposed.failures > 0
    assert release.exposed.rescued == release.exposed.failures

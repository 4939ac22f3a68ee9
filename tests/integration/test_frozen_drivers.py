"""A driver that is frozen (SIGSTOP) in the middle of a tick, overtaken by a person, and thawed (SIGCONT): no harm.

It is frozen right before each kind of write that it makes on its way.  Meanwhile somebody rolls the release back, who
waits for the frozen one's hold no longer than it takes to see that it does not live.  Once thawed it may find out and
end; it must change nothing: not the gateway, not what runs, not the alias, not the journal, and no user may be answered
by the version that was taken out.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
import stories
from laptops import Answered, ask, forked, in_child, until, warm
from test_kills_for_real import LaptopBinding, LaptopWorld

from modelcd.adapters.traefik import Gateway
from modelcd.flows import deliver as flows
from modelcd.flows._effects import pages
from modelcd.testing.faults import BEFORE, Faults, Moment
from modelcd.testing.kills import Seen
from modelcd.testing.traffic import DOORS, free_port

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # it is, and waits
]

OVERTAKEN = 20.0
"""Seconds within which somebody else must have gone back, however the driver before is frozen."""

WRITES = (
    r"Runtime.start production/m@2",
    r"Router.write production/m: 1 100 %, 2 0 %",
    r"Journal.append production/m: intended shift",
    r"Router.write production/m: 1 50 %, 2 50 %",
    r"Journal.append production/m: observed",
    r"Router.write production/m: 2 100 %, 1 0 %",
    r"Registry.point production to 2",
    r"Journal.append production/m: closed",
)


@dataclass
class Users:
    """People who ask for scores all the time."""

    port: int
    answers: list[Answered] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask until told to stop."""
        while not self.stop.wait(0.005):
            self.answers.append(ask(self.port, stories.STREAM))


@pytest.fixture(scope="module")
def binding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopBinding]:
    folder = tmp_path_factory.mktemp("frozen")
    gateway = Gateway(folder / "gateway", free_port(), free_port(), DOORS)
    warm(folder / "warm")
    gateway.start()
    made = LaptopBinding(folder, gateway)
    try:
        yield made
    finally:
        made._laptop.clear()
        gateway.stop()


def freeze(world: LaptopWorld, write: str) -> int:
    """Let a driver promote version 2 until it is about to do *write*, and is frozen; return its pid."""

    def drive() -> None:
        frozen = False

        def hook(moment: Moment, _: Faults) -> None:
            nonlocal frozen
            if not frozen and moment.when == BEFORE and re.fullmatch(write, moment.effect.name):
                frozen = True
                os.kill(os.getpid(), signal.SIGSTOP)

        stories.driven("promote", world.stage(), hook)

    pid, read = forked(drive)
    os.close(read)
    stopped = lambda: os.waitpid(pid, os.WUNTRACED | os.WNOHANG)[0] == pid  # noqa: E731
    try:
        until(stopped, 60.0, f"it never came to {write}")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
    return pid


def go_back(world: LaptopWorld) -> None:
    """Roll back, as somebody at another machine does."""
    without = pages.set(False)
    try:
        with contextlib.suppress(stories.ModelcdError):
            flows.rollback_in(world.stage(), stories.MODEL, "production", "bob", reason="complaints")
    finally:
        pages.reset(without)


def thaw(pid: int) -> None:
    """Let the driver go on, and wait for its end."""
    os.kill(pid, signal.SIGCONT)
    until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, 60.0, "the thawed driver does not end")


def seen_by(world: LaptopWorld) -> tuple[Seen, int]:
    """Look from outside, and say how many records there are."""
    count = in_child(lambda: len(world.laptop.environment("production").journal.read(stories.STREAM)))[1]
    return world.look(), count


@pytest.fixture
def users(binding: LaptopBinding) -> Iterator[Users]:
    asking = Users(binding._laptop.gateway.port)
    thread = threading.Thread(target=asking.ask, daemon=True)
    thread.start()
    yield asking
    asking.stop.set()
    thread.join()


@pytest.mark.parametrize("write", WRITES)
def test_a_driver_frozen_before_a_write_does_no_harm_when_it_is_thawed(
    binding: LaptopBinding, users: Users, write: str
) -> None:
    world = binding.world("promote")
    assert isinstance(world, LaptopWorld)
    pid = freeze(world, re.escape(write))
    began = time.monotonic()

    in_child(partial(go_back, world), OVERTAKEN)
    took = time.monotonic() - began
    world.reconcile()
    before, records = seen_by(world)
    users.answers.clear()
    thaw(pid)
    until(lambda: len(users.answers) > 50)

    after, grown = seen_by(world)
    assert before.endpoints["production/m"]["shares"] == {1: 100.0}
    assert {answer.version for answer in users.answers} == {"1"}
    assert (after, grown) == (before, records)
    assert took < OVERTAKEN

"""The control process of a workspace: `python -m modelcd.api`, with `MODELCD_WORKSPACE` in the environment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import httpx
import psutil

from modelcd.adapters.guard import server
from modelcd.api.app import application
from modelcd.control import Control
from modelcd.domain.delivery import SCHEDULES
from modelcd.environments.kind import Kind
from modelcd.errors import CannotTell, one_line
from modelcd.platform.abandoned import close_abandoned
from modelcd.platform.environments import Platform
from modelcd.platform.journal import journal_of
from modelcd.platform.reviving import LONGEST_PAUSE, revive, say
from modelcd.platform.services import Services
from modelcd.ports import Journal
from modelcd.steps.announce import Announcer
from modelcd.steps.publish import Publisher
from modelcd.steps.reconcile import Reconciler
from modelcd.workspace import Workspace, open_workspace

ROUND_EVERY = 1.0
"""Seconds between two rounds of the reconciler."""

TIDY_EVERY = 5.0
"""Seconds between two looks for runs on Prefect's pages that nobody drives any more."""

GRACE = 5.0
"""Seconds that a process of a removed workspace has to end by itself."""

KEPT_ALIVE = ("gateway", "prefect")


@dataclass
class Followed:
    """The environments of *platform* as they are declared, for whoever works with them; *tell* hears of trouble."""

    platform: Platform
    tell: Callable[[str], None] = lambda _: None
    kinds: tuple[Kind, ...] = ()
    told: str = ""

    def changed(self) -> bool:
        """Say whether other environments hold from now on; a mistake changes nothing, and is told once."""
        before, told = self.kinds, ""
        try:
            if (now := self.platform.kinds) is not before:
                self.platform.all()
                self.kinds = now
        except Exception as error:  # the file is its owner's code, and so may be a kind
            told = one_line(error)
            if told != self.told:
                self.tell(f"the environments stay as they were: {told}")
        self.told = told
        return self.kinds is not before


def reconcile(workspace: Workspace, stop: threading.Event) -> None:
    """Keep every endpoint as it is wanted until *stop* is set."""
    platform = Platform(workspace)
    followed, people, works = Followed(platform, say), platform.notices, list[Callable[[], None]]()

    def trouble(text: str) -> None:
        say(text)
        people.tell("trouble", text)  # what cannot be recorded would not be told by the announcer

    while not stop.wait(ROUND_EVERY):
        if followed.changed():
            env = platform.environment(platform.names[-1])
            works = [Reconciler(platform.all(), trouble).round, Announcer(env.journal, people, env.clock).round]
        for work in works:
            try:
                work()
            except Exception as error:  # whatever it was, the next round may do better, and there is nobody else
                say(one_line(error))


def publish(workspace: Workspace, stop: threading.Event) -> None:
    """Let MLflow's pages say what the journal says until *stop* is set; trouble is said once, and tried again."""
    platform = Platform(workspace)
    followed, publisher, pause, said = Followed(platform), None, ROUND_EVERY, ""
    while not stop.wait(pause):
        if followed.changed():
            env = platform.environment(platform.names[-1])
            publisher = Publisher(env.journal, platform.catalog, platform.names, env.clock)
        if publisher is None:
            continue
        try:
            publisher.round()
            pause, said = ROUND_EVERY, ""
        except Exception as error:  # as above
            pause, told = min(2 * pause, LONGEST_PAUSE), one_line(error)
            if told != said:
                say(f"MLflow's pages are behind: {told}")
            said = told


def kept_alive(journal: Journal) -> tuple[str, ...]:
    """Return the services that are started again: deployments only once something was scheduled, to serve or undo."""
    try:
        return (*KEPT_ALIVE, "deployments") if journal.heads(SCHEDULES) else KEPT_ALIVE
    except CannotTell:
        return KEPT_ALIVE


def dead(services: Services, journal: Journal) -> list[str]:
    """Return the services that have to be started again now."""
    names = [name for name in kept_alive(journal) if not services.alive(name)]
    if "deployments" in names and ("prefect" in names or not services.answers("prefect")):
        names.remove("deployments")  # they only wait for Prefect, and busily
    return names


def tidy(workspace: Workspace, stop: threading.Event) -> None:
    """Close what stands on Prefect's pages as running though its driver was killed, until *stop* is set."""
    services = Services(workspace)
    while not stop.wait(TIDY_EVERY):
        if services.alive("prefect"):
            with suppress(httpx.HTTPError):
                for name in close_abandoned(services):
                    say(f"the driver of a run on Prefect's pages is gone, the run is closed: {name}")


def outlive(workspace: Workspace, stop: threading.Event, end: Callable[[], None]) -> None:
    """End every process of *workspace* and then, by *end*, this one, once somebody has removed its folder."""
    services, known = Services(workspace), set[psutil.Process]()
    while not stop.wait(ROUND_EVERY):
        if workspace.settings.exists() or workspace.journal.exists():
            known = services.processes()
            continue
        stop.set()  # the others would make parts of the folder anew
        say("the workspace is gone: ending everything that it ran")
        others = [process for process in known if process.pid != os.getpid()]
        for process in others:
            with suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs(others, GRACE)
        for process in others:  # each leads a group of its own: what it started goes with it
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        end()


def main() -> None:
    """Serve until told to stop."""
    workspace = open_workspace()
    services, stop = Services(workspace), threading.Event()
    serving = server(application(Control(workspace)), workspace.ports["control"], workspace.token)
    works: list[Callable[[], None]] = [
        partial(reconcile, workspace, stop),
        partial(revive, services, partial(dead, services, journal_of(workspace)), stop),
        partial(tidy, workspace, stop),
        partial(publish, workspace, stop),
        partial(outlive, workspace, stop, partial(setattr, serving, "should_exit", True)),
    ]
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    serving.run()
    stop.set()
    for thread in threads:
        thread.join(10.0)


if __name__ == "__main__":
    main()

"""The control process of a workspace: `python -m modelcd.api`, with `MODELCD_WORKSPACE` in the environment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import httpx
import psutil

from modelcd.adapters.guard import server
from modelcd.adapters.notices import Notices
from modelcd.api.app import application
from modelcd.control import Control
from modelcd.domain.delivery import SCHEDULES
from modelcd.errors import CannotTell, ModelcdError
from modelcd.platform.abandoned import close_abandoned
from modelcd.platform.environments import Platform
from modelcd.platform.journal import journal_of
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

LONGEST_PAUSE = 60.0
"""Seconds between two tries of what keeps failing."""

GRACE = 5.0
"""Seconds that a process of a removed workspace has to end by itself."""

KEPT_ALIVE = ("gateway", "prefect")

_MISTAKES: dict[str, str] = {}
"""What was said of a file of environments that cannot be read, by the stamp of those that hold meanwhile."""


def say(text: str) -> None:
    """Write a line into this service's log."""
    print(datetime.now(UTC).isoformat(timespec="seconds"), text, flush=True)


def reconcile(workspace: Workspace, stop: threading.Event) -> None:
    """Keep every endpoint as it is wanted until *stop* is set."""
    for platform in _as_declared(workspace, stop):
        people, env = platform.notices, platform.environment(platform.names[-1])

        def trouble(text: str, people: Notices = people) -> None:
            say(text)
            people.tell("trouble", text)  # what cannot be recorded would not be told by the announcer

        reconciler, announcer = Reconciler(platform.all(), trouble), Announcer(env.journal, people, env.clock)
        while not stop.wait(ROUND_EVERY) and not _changed(platform):
            for work in (reconciler.round, announcer.round):
                try:
                    work()
                except Exception as error:  # whatever it was, the next round may do better, and there is nobody else
                    say(_told(error))


def _as_declared(workspace: Workspace, stop: threading.Event) -> Iterator[Platform]:
    """Give the environments as their file says until *stop* is set: anew whenever it has changed to something good."""
    said = ""
    while not stop.is_set():
        platform = Platform(Workspace(workspace.path))
        try:
            platform.stamp, platform.all()
        except Exception as error:  # as above: who mends the file is heard
            if (told := _told(error)) != said:
                say(told)
            said = told
            stop.wait(ROUND_EVERY)
            continue
        said = ""
        yield platform


def _changed(platform: Platform) -> bool:
    """Say whether the environments are declared otherwise by now; a file with a mistake changes nothing yet."""
    fresh = Platform(Workspace(platform.workspace.path))
    try:
        return fresh.stamp != platform.stamp and bool(fresh.kinds)
    except (ModelcdError, OSError) as error:
        if (told := _told(error)) != _MISTAKES.get(platform.stamp):
            say(f"the environments stay as they were: {told}")
        _MISTAKES[platform.stamp] = told
        return False


def publish(workspace: Workspace, stop: threading.Event) -> None:
    """Let MLflow's pages say what the journal says until *stop* is set; trouble is said once, and tried again."""
    for platform in _as_declared(workspace, stop):
        env = platform.environment(platform.names[-1])
        publisher, pause, said = Publisher(env.journal, platform.catalog, platform.names, env.clock), ROUND_EVERY, ""
        while not stop.wait(pause) and not _changed(platform):
            try:
                publisher.round()
                pause, said = ROUND_EVERY, ""
            except Exception as error:  # as above
                pause, told = min(2 * pause, LONGEST_PAUSE), _told(error)
                if told != said:
                    say(f"MLflow's pages are behind: {told}")
                said = told


def kept_alive(journal: Journal) -> tuple[str, ...]:
    """Return the services that are started again: deployments only once something was scheduled, to serve or undo."""
    try:
        return (*KEPT_ALIVE, "deployments") if journal.heads(SCHEDULES) else KEPT_ALIVE
    except CannotTell:
        return KEPT_ALIVE


def revive(workspace: Workspace, stop: threading.Event) -> None:
    """Start services that died until *stop* is set, after longer and longer pauses while they keep dying."""
    services, journal, pause = Services(workspace), journal_of(workspace), 0.5
    while not stop.wait(pause):
        dead = [name for name in kept_alive(journal) if not services.alive(name)]
        if "deployments" in dead and ("prefect" in dead or not services.answers("prefect")):
            dead.remove("deployments")  # they only wait for Prefect, and busily
        pause = min(pause * 2, LONGEST_PAUSE) if dead else 0.5
        if dead:
            say(f"starting again: {', '.join(dead)}")
            try:
                services.again(dead)
            except Exception as error:  # as above
                say(_told(error))


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


def _told(error: Exception) -> str:
    return error.message if isinstance(error, ModelcdError) else f"{type(error).__name__}: {error}"


def main() -> None:
    """Serve until told to stop."""
    workspace = open_workspace()
    stop = threading.Event()
    serving = server(application(Control(workspace)), workspace.ports["control"], workspace.token)
    works: list[Callable[[], None]] = [
        partial(reconcile, workspace, stop),
        partial(revive, workspace, stop),
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

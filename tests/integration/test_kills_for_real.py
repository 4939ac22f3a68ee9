"""Killed anywhere, for real: SIGKILL to forked drivers over the laptop's adapters, also in the middle of an effect.

There is time for a sample only, always the same one: a few moments of each story and way, those of a sort that no
story had yet first (before and after an effect, at its first, a middle and its last change).  `MODELCD_KILLS=20` takes
more of them, `MODELCD_KILLS=all` every one, which takes hours; before and after each effect, memory has them all.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy
import stories
from laptops import SERVER, Hurried, Laptop, ask, forked, in_child, strays, until, use, warm

from modelcd.adapters.traefik import Gateway
from modelcd.environment import Environment
from modelcd.ports import Unit
from modelcd.testing.faults import AFTER, BEFORE, Effect, Faults, Moment
from modelcd.testing.kills import KillContract, Ran, Seen, Way, World
from modelcd.testing.traffic import DOORS, free_port

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # it is, and waits
]

SAMPLE = os.environ.get("MODELCD_KILLS", "2")
"""How many moments of each story and way, or `all`."""

BEGINNINGS = {
    "retrain": "deliver",
    "give labels": "deliver",
    "repair what died": "deliver",
    "promote in trouble": "promote",
}
"""Stories that begin as another one does."""

LIGHT = ("Journal.append", "Journal.exclusive", "Project.call")
"""Effects of which there are many, and which are one change or none of the laptop's; the sample has few of them."""

CHANGES = frozenset(
    {
        *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.kill", "os.killpg", "os.truncate", "os.link"),
        *("os.symlink", "shutil.copyfile", "shutil.move", "subprocess.Popen"),
    }
)
"""Audit events by which something changes outside of the process; a file opened for writing is one, too."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Middles:
    """Counts the changes within the effects of a driver, and tells of each as a moment of its own."""

    def __init__(self, tell: Callable[[Moment, Faults], None]) -> None:
        self._tell, self._now = tell, threading.local()
        sys.addaudithook(self._audit)
        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", lambda _: self._change())
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", self._statement)

    def __call__(self, moment: Moment, faults: Faults) -> None:
        self._now.effect = None
        self._tell(moment, faults)
        if moment.when == BEFORE:
            self._now.effect, self._now.count, self._now.faults = moment.effect, 0, faults

    def _change(self) -> None:
        effect: Effect | None = getattr(self._now, "effect", None)
        if effect is not None:
            self._now.count += 1
            self._tell(Moment(effect, f"at change {self._now.count} of"), self._now.faults)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            self._change()

    def _statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.split(None, 1)[0].upper() in ("INSERT", "UPDATE", "DELETE", "COMMIT"):
            self._change()


class Accidents:
    """What goes wrong once in a world, over all its drivers: counted in files, because drivers die."""

    def __init__(self, laptop: Laptop) -> None:
        self._laptop = laptop

    def nth(self, what: str) -> int:
        """Return how often this was asked of *what*."""
        path = self._laptop.folder / f"{what}.count"
        with path.open("a") as file:
            file.write(".")
        return path.stat().st_size

    def bound(self, env: Environment) -> Environment:
        """Return *env* with a gateway that refuses once, and a champion that dies while somebody waits."""
        refusing = stories.Refusing(env.router, lambda: self.nth("writes"))
        return replace(env, router=refusing, clock=Fateful(self))

    def kill_champion(self) -> None:
        """Let the champion die."""
        crash(self._laptop, f"{stories.STREAM}@1")


class Fateful(Hurried):
    """A hurried clock by which the champion dies while somebody waits for the third time."""

    def __init__(self, accidents: Accidents) -> None:
        self._accidents = accidents

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self._accidents.nth("waits") == 3:
            self._accidents.kill_champion()


def crash(laptop: Laptop, name: str) -> None:
    """Let the instance *name* die as a crash does."""
    runtime = laptop.environment("production").runtime
    instance = next(i for i in runtime.instances() if i.id == name)
    os.kill(int(instance.detail.removeprefix("process ")), signal.SIGKILL)
    until(lambda: not next(i for i in runtime.instances() if i.id == name).alive)


class LaptopWorld:
    """A world on the laptop's adapters; every verb is a forked process."""

    def __init__(self, story: str, laptop: Laptop) -> None:
        self.story, self.laptop = story, laptop

    def stage(self, accidents: bool = True) -> stories.Stage:
        """Return the place, bound anew."""
        bind: Callable[[str], Environment] = self.laptop.environment
        if accidents and self.story == "promote in trouble":
            troubles = Accidents(self.laptop)
            bind = lambda name: troubles.bound(self.laptop.environment(name))  # noqa: E731
        return stories.Stage(bind, self.laptop.folder, interpreter=sys.executable)

    def run(self, death: Moment | None = None) -> Ran:
        def drive() -> Ran:
            moments: list[Moment] = []

            def tell(moment: Moment, faults: Faults) -> None:
                moments.append(moment)
                if moment == death:
                    os.kill(os.getpid(), signal.SIGKILL)

            ran = stories.driven(self.story, self.stage(), Middles(tell))
            return replace(ran, moments=tuple(moments))

        killed, ran = in_child(drive)
        return Ran(died=True) if killed else ran

    def reconcile(self) -> None:
        in_child(lambda: stories.rounds({n: self.stage().environment(n) for n in stories.ENVIRONMENTS}))

    def look(self) -> Seen:
        def see() -> Seen:
            environments = self.laptop.environments()
            seen = stories.look(environments, self._answers)
            return replace(seen, elsewhere=(*seen.elsewhere, *strays(self.laptop, environments)))

        return in_child(see)[1]

    def close(self) -> None:
        """The next world clears up."""

    def _answers(self, stream: str) -> list[str]:
        port = self.laptop.gateway.port
        answers = [ask(port, stream) for _ in range(4)]
        return [f"{answer.status} {answer.version}" for answer in answers]


class LaptopBinding:
    """Worlds on one gateway and in one folder, one after the other; how stories begin is kept as copies."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        script = folder / "server.py"
        script.write_text(SERVER)
        self._folder, self._laptop = folder, Laptop(folder / "w", gateway, script)
        self._taken: set[tuple[Way, str]] = set()

    def world(self, story: str) -> World:
        kept = self._folder / "kept" / BEGINNINGS.get(story, story)
        if not kept.exists():
            self._make(story, kept)
        in_child(partial(self._restore, kept))
        if story == "repair what died":
            crash(self._laptop, f"{stories.STREAM}@1")
        return LaptopWorld(story, self._laptop)

    def sample(self, story: str, way: Way, moments: Sequence[Moment]) -> Sequence[Moment]:
        if SAMPLE == "all":
            return moments
        sorts = {_sort(moment, moments): moment for moment in reversed(moments)}
        fresh = [moment for sort, moment in reversed(sorts.items()) if (way, sort) not in self._taken]
        light = [moment for moment in fresh if moment.effect.method in LIGHT]
        heavy = [moment for moment in fresh if moment not in light]
        some = [*_spread(heavy, int(SAMPLE) - 1), *_spread(light, 1)] or _spread(moments, 2)
        self._taken.update((way, _sort(moment, moments)) for moment in some)
        return some

    def _make(self, story: str, kept: Path) -> None:
        self._laptop.clear()
        world = LaptopWorld(story, self._laptop)
        begin = partial(self._begin, world)
        in_child(begin, 120.0)
        shutil.copytree(self._laptop.folder, kept)

    def _begin(self, world: LaptopWorld) -> None:
        self._laptop.folder.mkdir(parents=True)
        reconcile = lambda: stories.rounds(self._laptop.environments())  # noqa: E731
        die = partial(crash, self._laptop)
        stories.begin(world.story, world.stage(accidents=False), reconcile, die, self._laptop.log)

    def _restore(self, kept: Path) -> None:
        """Put the files back, start what ran, and tell the gateway."""
        laptop = self._laptop
        laptop.clear()
        shutil.copytree(kept, laptop.folder)
        for stream, env in ((f"{name}/{stories.MODEL}", env) for name, env in laptop.environments().items()):
            endpoint = stories.Watch(stream).refresh(env)
            if endpoint.wanted is None:
                until(lambda stream=stream, env=env: env.router.read(stream) is None)
                continue
            addresses = {}
            for instance in env.runtime.instances(stream):
                opened = next(r for r in env.journal.read(stream) if r.entry.body.get("version") == instance.version)
                artifact = Path(opened.entry.body["artifact"])
                unit = Unit(stream, instance.model, instance.version, instance.digest, artifact)
                addresses[instance.version] = env.runtime.start(unit).address
            for address in addresses.values():
                until(partial(_ready, env, address))
            env.router.write(stream, endpoint.wanted, addresses)


def _ready(env: Environment, address: str) -> bool:
    try:
        return bool(env.scoring.ready(address))
    except stories.ModelcdError:
        return False


def _sort(moment: Moment, among: Sequence[Moment]) -> str:
    """Say what sort of moment it is: one of each sort is in the sample of some story."""
    kind = re.sub(r" .*: | .*m@\d+| \S+ to \d", " ", moment.effect.name).strip()
    if moment.when in (BEFORE, AFTER):
        return f"{moment.when} {kind}"
    number, last = _change(moment), max(_change(m) for m in among if m.effect == moment.effect)
    return f"{'first' if number == 1 else 'last' if number == last else 'middle'} change of {kind}"


def _change(moment: Moment) -> int:
    return int("".join(filter(str.isdigit, moment.when)) or 0)


def _spread(moments: Sequence[Moment], most: int) -> Sequence[Moment]:
    return moments[:: max(1, len(moments) // most)][:most] if most else []


@pytest.fixture(scope="module")
def binding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopBinding]:
    folder = tmp_path_factory.mktemp("kills")
    warm(folder / "warm")
    gateway = Gateway(folder / "gateway", free_port(), free_port(), DOORS)
    gateway.start()
    made = LaptopBinding(folder, gateway)
    users, _ = forked(partial(use, gateway.port))
    yield made
    os.kill(users, signal.SIGKILL)
    os.waitpid(users, 0)
    made._laptop.clear()
    gateway.stop()


class TestLaptop(KillContract):
    KNOWN: ClassVar[Mapping[str, str]] = stories.KNOWN

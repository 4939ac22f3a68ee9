"""Releases that were really driven, over memory adapters: uneven ticks, slow effects, users, people, crashes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from modelcd.adapters.memory import MemoryClock, Prediction
from modelcd.adapters.memory_traffic import MemoryMetrics, MemoryRouter, Reply, Request
from modelcd.artifact import digest_of
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.records import Record
from modelcd.domain.release import Release
from modelcd.domain.routing import Routing
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Counters
from modelcd.domain.versions import Lineage
from modelcd.environment import Environment
from modelcd.environments.memory import Memory
from modelcd.errors import CannotTell, RouterError
from modelcd.ports import Build, Label, Still, always
from modelcd.steps.release import Candidate, open_release
from modelcd.steps.tick import tick
from modelcd.steps.watch import Watch

ERRORS = Guard("errors", GuardKind.ERRORS, margin=0.01)
LATENCY = Guard("latency", GuardKind.LATENCY, ratios=((0.5, 1.25), (0.99, 1.5)))
SUCCESS = Guard("success", GuardKind.SUCCESS, margin=0.1)
LADDER = Canary(shares=(5, 25, 50), guards=(ERRORS, LATENCY, SUCCESS), keep_warm=0.0)
AT_ONCE = Canary(shares=(), keep_warm=0.0)
STREAM = "production/m"


@dataclass(frozen=True)
class Kind:
    """How a version is: seconds it takes, and every how many requests it fails or is wrong (0: never)."""

    seconds: float = 0.004
    fails: int = 0
    wrong: int = 0


GOOD, FAILING, SLOW, WRONG = Kind(), Kind(fails=10), Kind(seconds=0.009), Kind(wrong=2)


class SlowRouter(MemoryRouter):
    """A gateway for which a change takes a while, and that cannot be reached now and then."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__()
        self.clock = clock
        self.away = 0

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        self.clock.sleep(0.137)
        if self.away:
            self.away -= 1
            raise RouterError("the gateway does not answer", help="is it running?")
        super().write(endpoint, routing, addresses, still)


class DriversClock:
    """The clock of the machine that drives, *behind* the true one by some seconds."""

    def __init__(self, clock: MemoryClock) -> None:
        self.clock = clock
        self.behind = 0.0

    def now(self) -> datetime:
        return self.clock.now() - timedelta(seconds=self.behind)

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)


class Crowd:
    """Users by the dozen, counted without being served: what a gateway would have counted for *kinds* of versions."""

    def __init__(self, router: MemoryRouter, kinds: Mapping[int, Kind], seed: int = 1) -> None:
        self.router, self.kinds, self.chance = router, dict(kinds), Random(seed)
        self.counted: dict[int, list[int]] = {}
        self.turns: dict[int, float] = {}

    def come(self, requests: int) -> None:
        """Let *requests* of users come."""
        routing = self.router.read(STREAM)
        assert routing is not None, "something serves"
        for arm in routing.arms:
            due = self.turns.get(arm.version, 0.0) + requests * arm.share / 100
            self.turns[arm.version] = due - int(due)
            kind = self.kinds[arm.version]
            counted = self.counted.setdefault(arm.version, [0] * (2 + BUCKETS))
            for _ in range(int(due)):
                counted[0] += 1
                counted[1] += bool(kind.fails) and self.chance.random() < 1 / kind.fails
                counted[2 + bisect_left(LATENCY_GRID, kind.seconds * self.chance.uniform(0.8, 1.25))] += 1

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """Return what was counted so far, as the `Metrics` of the place."""
        return {v: Counters(n[0], n[1], tuple(n[2:])) for v, n in self.counted.items()}


@dataclass
class Life:
    """A place with one model, from its first version on."""

    folder: Path
    kinds: Mapping[int, Kind]
    seed: int = 1
    sent: int = 0
    memory: Memory = field(init=False)
    env: Environment = field(init=False)
    router: SlowRouter = field(init=False)
    clock: DriversClock = field(init=False)
    digests: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        for version in self.kinds:
            artifact = self.folder / str(version)
            artifact.mkdir(parents=True)
            (artifact / "model").write_text(str(version))
            self.digests[version] = digest_of(artifact)
        judged = {"success": lambda score, label: score == label}
        self.memory = Memory({digest: lambda rows: [0 for _ in rows] for digest in self.digests.values()}, judged)
        self.router = SlowRouter(self.memory.clock)
        self.clock = DriversClock(self.memory.clock)
        metrics = MemoryMetrics(self.router)
        self.env = replace(self.memory.environment, router=self.router, metrics=metrics, clock=self.clock)
        for version, digest in self.digests.items():
            lineage = Lineage(training=str(version), code="", data="")
            self.memory.registry.add(Build("m", self.folder / str(version), digest, lineage))
        assert self.live(self.open(1, AT_ONCE)).ending is not None

    def open(self, version: int, policy: Canary = LADDER, again: str = "", takes_out: int | None = None) -> Watch:
        """Open a release of *version*, or with *takes_out* a rollback to it."""
        artifact = str(self.folder / str(version))
        candidate = Candidate("m", version, self.digests[version], artifact, "", "snapshot", policy)
        name = f"r{version}{len(self.memory.journal.read(STREAM))}"
        return open_release(
            self.env, candidate, release=name, actor="anna", reason="test", again=again, takes_out=takes_out
        )

    def users(self, requests: int, labelled: bool = True) -> None:
        """Let *requests* of users come."""
        for instance in self.memory.runtime.instances(STREAM):
            self.router.serve(instance.address, self._backend(instance.version) if instance.alive else None)
        for _ in range(requests):
            self.sent += 1
            answer = self.router.send(STREAM, self.sent)
            if answer.status == 200 and labelled:
                self.memory.predictions.label(STREAM, [Label(f"p{self.sent}", 1)])

    def _backend(self, version: int) -> Callable[[Request], Reply]:
        kind, seen = self.kinds[version], 0

        def answer(request: Request) -> Reply:
            nonlocal seen
            seen += 1
            if kind.fails and self.chance.random() < 1 / kind.fails:
                return Reply(status=500, seconds=kind.seconds)
            score = 0 if kind.wrong and self.chance.random() < 1 / kind.wrong else 1
            said = Prediction(f"p{request.body}", "m", version, request.routing, score, request.leg)
            self.memory.predictions.log(STREAM, [said])
            return Reply(body=score, seconds=kind.seconds * self.chance.uniform(0.8, 1.25))

        return answer

    def live(
        self,
        watch: Watch,
        seconds: float = 900.0,
        rate: float = 400.0,
        events: Mapping[float, Callable[[], object]] | None = None,
        labelled: bool = True,
    ) -> Release:
        """Drive for *seconds* under *rate* requests a second; *events* happen when so many seconds have passed."""
        began, left = self.memory.clock.now(), sorted((events or {}).items())
        while (passed := (self.memory.clock.now() - began).total_seconds()) < seconds:
            while left and left[0][0] <= passed:
                left.pop(0)[1]()
            with suppress(CannotTell):
                tick(self.env, watch, actor="anna")
            if watch.endpoint.releases[-1].ending is not None:
                break
            pause = self.chance.uniform(0.25, 0.4)
            self.users(round(rate * pause), labelled)
            self.memory.clock.sleep(pause)
        return watch.endpoint.releases[-1]

    @property
    def records(self) -> list[Record]:
        """Everything that was recorded."""
        return self.memory.journal.read(STREAM)


def any_of(*events: Callable[[], Any]) -> Callable[[], None]:
    """Return one event that is all of *events*."""

    def happen() -> None:
        for event in events:
            event()

    return happen

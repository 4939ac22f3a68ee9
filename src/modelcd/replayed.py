"""A place in this process where a recorded release happens once more, under a clock that jumps.

The journal of a real place gives the world around the engine: counts and labels as they came, versions that were slow
to start or died, effects that failed and how long they took.  Nothing is started, nothing real is written, and what is
written here is marked.

With the release's own policy all of it is taken over, each thing at its record, so that the same decisions follow.
With another policy the engine takes other decisions, and only what does not depend on them is: how the version started,
what was counted while both answered, and labels that could not be judged.  Two looks become one block only where both
were served under the same routing: two shares in one block would compare different hours of the day.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from modelcd.adapters.memory import MemoryJournal, MemoryPredictions, MemoryRegistry, MemoryRuntime, MemoryScoring
from modelcd.adapters.memory_project import MemorySuccesses
from modelcd.adapters.memory_traffic import MemoryRouter
from modelcd.artifact import digest_of
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import FROM_LABELS, Canary
from modelcd.domain.records import Entry, Record
from modelcd.domain.replay import Attempt, Found, Look, Recording, recording
from modelcd.domain.routing import Routing
from modelcd.domain.samples import Block, Counters, add
from modelcd.environment import Environment
from modelcd.errors import CannotTell, NotReady, PredictionsError
from modelcd.ports import Instance, Labelled, Still, Unit, always
from modelcd.steps.replay import refuse_unfit, replay

NOWHERE = Path(os.devnull)
"""Where the artifacts of a replay are: nothing is loaded, and no real artifact need be there any more."""


class AsRecorded(CannotTell):
    """An effect fails in a replay as it failed live."""


class Replayed:
    """The world of *recording* under *policy*; `environment` binds it to the engine's ports, `go` lets it move on."""

    def __init__(self, recording: Recording, policy: Canary) -> None:
        self.recording = recording
        self.own = to_plain(policy) == to_plain(recording.policy)
        self.reached = 0
        self.taken_over: list[tuple[str, str]] = []
        self.left_out: list[tuple[str, str]] = []
        self.clock = _Clock(recording.opening.at)
        self.journal = MemoryJournal()
        self.runtime = _Runtime(self)
        self.router = _Router(self)
        judged = {guard.name: _as_judged for guard in policy.guards if guard.kind in FROM_LABELS}
        self.environment = Environment(
            name=recording.start.environment,
            journal=self.journal,
            registry=_Registry(self),
            runtime=self.runtime,
            scoring=_Scoring(self),
            router=self.router,
            metrics=_Metrics(self),
            predictions=_Predictions(self),
            successes=MemorySuccesses(judged),
            clock=self.clock,
        )
        self.unready: dict[int, str] = {}
        self.trouble = ""
        self.counters: dict[int, Counters] = defaultdict(Counters)
        self._coming = deque(recording.looks)
        self._seqs = [look.seq for look in recording.looks]
        self._given: list[Look] = []
        self._given_seqs: list[int] = []
        self._asked = deque(recording.asked)
        self._attempts: dict[tuple[str, str], deque[Attempt]] = defaultdict(deque)
        for attempt in recording.attempts:
            self._attempts[attempt.effect, attempt.subject].append(attempt)
        self._taken = 0
        self._labels_after = 0
        self._begin(policy)

    def _begin(self, policy: Canary) -> None:
        """Let the journal begin as the real one stood, with a champion that serves, and open the release."""
        stream, start, opening = self.recording.start.stream, self.recording.start, self.recording.opening
        marked = {"policy": to_plain(policy), "replayed": self.recording.release}
        opened = replace(opening, body={**opening.body, **marked})
        self.journal.append(stream, 0, [_stand_in(entry) for entry in (*self.recording.before, opened)])
        for version in start.wanted.versions if start.wanted else ():
            self.runtime.begin(version)
        if start.served is not None:
            self.router.begin(start.served)

    # -- moving on -----------------------------------------------------------------------------------------------------

    def ask(self, upto: int) -> None:
        """Let people ask what they asked before record *upto*, if this is the release as it was."""
        while self._asked and self._asked[0].seq < upto:
            entry = self._asked.popleft().entry
            what = f"{entry.actor} asked to {str(entry.body['ask']).replace('_', ' ')}"
            why = f": {entry.body['reason']}" if entry.body.get("reason") else ""
            (self.taken_over if self.own else self.left_out).append((entry.at, what + why))
            if self.own:
                stream = self.recording.start.stream
                marked = replace(entry, body={**entry.body, "replayed": self.recording.release})
                self.journal.append(stream, len(self.journal.read(stream)), [marked])

    def go(self, found: Found) -> None:
        """Move on to a moment of the recording and let the world be as it was *found* then."""
        self.clock.set(found.at, back=self.own)
        while self._coming and self._coming[0].seq <= found.seq:
            self._give(self._coming.popleft())
        self.reached = found.seq
        facts = self.taken_over if self.own or found.early else self.left_out
        known = facts[-1][1] if facts else ""
        facts += [(found.at, what) for what in found.told() if what != known]
        self.unready = {} if facts is self.left_out else self.unready
        if facts is self.left_out:
            return
        if found.answering:
            self.unready.clear()
        if found.absent is not None:
            self.runtime.stop(f"{self.recording.start.stream}@{found.absent}")
        for version, detail in found.dead.items():
            self.runtime.begin(version)
            self.runtime.kill(f"{self.recording.start.stream}@{version}", detail)
        self.unready |= found.unready
        self.router.adrift = found.adrift

    def _give(self, look: Look) -> None:
        if look.trouble != self.trouble and look.trouble:
            self.taken_over.append((self.clock.now().isoformat(), f"labels could not be judged: {look.trouble}"))
        self.trouble = look.trouble
        if look.evidence or self.own:
            self._count(look.counted)
            for version in look.appeared:
                self.counters.setdefault(version, Counters(requests=1))
        if look.evidence and not look.empty:
            self._given.append(look)
            self._given_seqs.append(look.seq)

    def _count(self, more: Mapping[int, Counters]) -> None:
        for version, counters in more.items():
            self.counters[version] = add(self.counters[version], replace(counters, epoch=""))

    @property
    def waiting(self) -> str:
        """The revision under which was served what the engine has not looked at yet; empty when it has seen all."""
        looks = self._since(self._taken)
        return looks[-1].revision if looks else ""

    def _since(self, seq: int) -> list[Look]:
        """Return the looks behind record *seq* that were given to the engine and are evidence."""
        return self._given[bisect_right(self._given_seqs, seq) :]

    def as_served(self, block: Block) -> Block:
        """Return *block*, which the engine takes now, with the routing and the labels as they really were."""
        looks = self._since(self._taken)
        self._taken = self.reached
        labelled = self._since(self._labels_after) if block.labels or block.sums else []
        block = replace(
            block,
            labels=_together([look.labels for look in labelled], set(block.labels)),
            sums=_together([look.sums for look in labelled], set(block.sums)),
        )
        if not looks or looks[-1].revision == block.revision:
            return block
        return replace(block, revision=looks[-1].revision, share=looks[-1].share)

    # -- what the ports ask --------------------------------------------------------------------------------------------

    def attempt(self, effect: str, subject: str) -> None:
        """Let an effect take as long as it took live and fail as it failed there, if this is the very same one."""
        tries = self._attempts[effect, subject]
        while tries and tries[0].ended <= self.reached:
            tries.popleft()
        if not tries or self._between(tries[0]):
            if effect == "shift":
                self._taken = self.reached
            return
        tried = tries.popleft()
        self.reached = tried.ended
        self.clock.set(tried.at, back=self.own)
        if self.own:
            self._count(tried.tail)
        if tried.error:
            self.taken_over.append((tried.at, f"could not {effect}: {tried.error}"))
            raise AsRecorded(tried.error, help=tried.help)
        if effect == "shift":
            self._taken = self.reached

    def effect_of(self, revision: str) -> str:
        """Say whether the routing *revision* is written to rehearse the way back, or for users."""
        coming = (tried for tried in self._attempts["rehearse", revision] if tried.ended > self.reached)
        return "rehearse" if next(coming, None) is not None else "shift"

    def _between(self, tried: Attempt) -> bool:
        """Say whether there was a look between now and the attempt: then it is another one, of a later decision."""
        return bisect_right(self._seqs, self.reached) != bisect_right(self._seqs, tried.begun)

    def labelled(self, after: int) -> list[Labelled]:
        """Return the labels that came behind record *after*, one by one, as they were judged live."""
        if self.trouble:
            raise PredictionsError(self.trouble)
        self._labels_after = after
        model, version = self.recording.start.model, self.recording.version
        champion = self.recording.start.champion
        wanted = self.router.read(self.recording.start.stream)
        rows: list[Labelled] = []
        for look in self._since(after):
            here = wanted.revision if wanted is not None else ""
            for stranger, count in look.strange.items():
                rows += [Labelled(look.seq, "", model, stranger, here, "main", True, True)] * count
            served: dict[str, tuple[Any, Any]] = {}
            for judged in (*look.labels.values(), *look.sums.values()):
                served |= judged
            for revision, pair in served.items():
                # The engine counts what it served itself; `as_served` puts the real routing, and what came of it, back.
                known = revision if revision in self.router.written or wanted is None else wanted.revision
                for who, counted in zip((champion, version), pair, strict=True):
                    rows += [Labelled(look.seq, "", model, int(who or 0), known, "main", True, True)] * counted.n
        return rows


def replayed(records: Sequence[Record], release: str, policy: Canary | None = None) -> dict[str, Any]:
    """Replay *release* of the stream that *records* are, under its own policy or under *policy*.

    Raises `UsageError` for a policy that cannot be judged on what was recorded.
    """
    recorded = recording(records, release)
    refuse_unfit(policy or recorded.policy, recorded.policy)
    return replay(Replayed(recorded, policy or recorded.policy))


def _as_judged(_score: Any, _label: Any) -> bool:
    """Stand in for a function of the user's: what it said live is put back by `Replayed.as_served`."""
    return True


def _together(looks: Sequence[Mapping[str, Any]], guards: set[str]) -> dict[str, Any]:
    """Return what *looks* counted for *guards*, by routing and arm."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for name, look in ((name, look) for look in looks for name in guards):
        served = found.setdefault(name, {})
        for revision, (old, new) in look.get(name, {}).items():
            known = served.get(revision)
            served[revision] = (known[0].plus(old), known[1].plus(new)) if known else (old, new)
    return {name: served for name, served in found.items() if served}


def _stand_in(entry: Entry) -> Entry:
    if entry.kind != "opened":
        return entry
    nothing = {"artifact": str(NOWHERE), "digest": digest_of(NOWHERE), "warm_up": ""}
    return replace(entry, body={**entry.body, **nothing})


class _Clock:
    """Stands where it is set; *back* only as clocks of several drivers differ."""

    def __init__(self, at: str) -> None:
        self._now = datetime.fromisoformat(at)

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=max(0.0, seconds))

    def set(self, at: str, *, back: bool) -> None:
        moment = datetime.fromisoformat(at)
        self._now = moment if back else max(self._now, moment)


class _Runtime(MemoryRuntime):
    def __init__(self, world: Replayed) -> None:
        super().__init__({digest_of(NOWHERE): lambda _: []})
        self.world = world

    def begin(self, version: int) -> None:
        """Let *version* run, as it did before."""
        start = self.world.recording.start
        super().start(Unit(start.stream, start.model, version, digest_of(NOWHERE), NOWHERE))

    def start(self, unit: Unit, still: Still = always) -> Instance:
        self.world.attempt("start", str(unit.version))
        self.world.unready[unit.version] = "starting"
        return super().start(unit)


class _Scoring(MemoryScoring):
    def __init__(self, world: Replayed) -> None:
        super().__init__(world.runtime)
        self.world = world

    def ready(self, address: str, timeout: float = 2.0) -> Mapping[str, str]:
        said = super().ready(address, timeout)
        if (reason := self.world.unready.get(int(said["version"]))) is not None:
            raise NotReady(reason or "no answer")
        return {str(key): str(value) for key, value in said.items()}


class _Router(MemoryRouter):
    def __init__(self, world: Replayed) -> None:
        super().__init__()
        self.world = world
        self.adrift = False
        self.written: set[str] = set()

    def begin(self, routing: Routing) -> None:
        """Serve by *routing*, as before."""
        stream = self.world.recording.start.stream
        super().write(stream, routing, {i.version: i.address for i in self.world.runtime.instances(stream)})

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        self.world.attempt(self.world.effect_of(routing.revision), routing.revision)
        super().write(endpoint, routing, addresses, still)
        self.adrift = False
        self.written.add(routing.revision)

    def read(self, endpoint: str) -> Routing | None:
        return None if self.adrift else super().read(endpoint)


class _Metrics:
    def __init__(self, world: Replayed) -> None:
        self.world = world

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        recording = self.world.recording
        routed = (number for number in (recording.start.champion, recording.version) if number is not None)
        return dict.fromkeys(routed, Counters()) | self.world.counters


class _Predictions(MemoryPredictions):
    def __init__(self, world: Replayed) -> None:
        super().__init__()
        self.world = world

    def labelled(self, endpoint: str, after: int = 0, limit: int = 100_000) -> list[Labelled]:
        return self.world.labelled(after)


class _Registry(MemoryRegistry):
    def __init__(self, world: Replayed) -> None:
        super().__init__()
        self.world = world

    def fetch(self, model: str, number: int) -> Path:
        return NOWHERE

    def point(self, model: str, alias: str, number: int | None, still: Still = always) -> None:
        self.world.attempt("point", str(number))

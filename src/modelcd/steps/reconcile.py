"""Keeping what is wanted true when nobody else is at it: one round over every endpoint of an environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise

from modelcd.domain.delivery import Builds, fold_builds, stream_of
from modelcd.domain.records import Entry
from modelcd.environment import Environment
from modelcd.errors import Busy, one_line
from modelcd.steps.build import end_scratch
from modelcd.steps.demote import demote
from modelcd.steps.tick import tick_on
from modelcd.steps.watch import Watch

ACTOR = "reconciler"

BUILDS = stream_of("").rstrip("/")

SILENCE = 3.0
"""Seconds without a record after which a release under way has nobody who drives it."""

ALIASES_EVERY = 10.0
"""Seconds between two looks at what the registry's alias of one endpoint names."""


@dataclass
class Reconciler:
    """Ticks the endpoints of *environments*; `say` is told what went wrong, once each time it changes.

    The environments are in the order of a promotion: what one of them took back leaves the one before it, too.
    """

    environments: dict[str, Environment]
    say: Callable[[str], None]
    watches: dict[str, Watch] = field(default_factory=dict)
    builds: dict[str, Builds] = field(default_factory=dict)
    at_rest: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, datetime] = field(default_factory=dict)

    def round(self) -> None:
        """Look at every endpoint once."""
        journal = next(iter(self.environments.values())).journal
        heads = journal.heads()
        for stream, head in heads.items():
            place = stream.split("/", 1)[0]
            if place == BUILDS:
                self._guarded(stream, partial(self._left_behind, stream, head.seq))
            elif place in self.environments:
                watch = self.watches.setdefault(stream, Watch(stream))
                self._guarded(stream, partial(self._one, self.environments[place], watch, head.seq))
        for env, later in pairwise(self.environments.values()):
            for stream in heads:
                place, _, model = stream.partition("/")
                known = self.watches.get(later.stream(model))
                if place == env.name and known is not None:
                    follow = partial(demote, env, later, self.watches[stream], known, ACTOR)
                    self._guarded(f"{stream} behind {later.name}", follow)

    def _guarded(self, stream: str, look: Callable[[], object]) -> None:
        """Call *look*; trouble with one stream is said and keeps no other from being looked after."""
        try:
            look()
            self.troubles.pop(stream, None)
        except Busy:
            return
        except Exception as error:
            told = one_line(error)
            if self.troubles.get(stream) != told:
                self.troubles[stream] = told
                self.say(f"{stream}: {told}")

    def _one(self, env: Environment, watch: Watch, newest: int) -> None:
        endpoint = watch.endpoint if watch.endpoint.seq == newest else watch.refresh(env)
        # A record from the future is one from before the clock was set back, and no sign of a driver.
        if endpoint.open is not None and 0 <= _age(endpoint.changed, env.clock.now()) < SILENCE:
            return
        now = env.clock.now()
        known = self.aliases.get(watch.stream)
        due = known is None or not 0 <= (now - known).total_seconds() < ALIASES_EVERY
        if due:
            self.aliases[watch.stream] = now
        tick_on(env, watch, actor=ACTOR, aliases=due)

    def _left_behind(self, stream: str, newest: int) -> None:
        """Close a delivery whose driver is gone: it cannot be gone on with, only begun anew."""
        env = next(iter(self.environments.values()))
        if self.at_rest.get(stream) == newest:
            return
        (last,) = env.journal.read(stream, after=newest - 1)[:1]
        if last.entry.kind == "closed":
            self.at_rest[stream] = newest
            return
        seen = self.builds.setdefault(stream, Builds(stream))
        seen = self.builds[stream] = fold_builds(seen, env.journal.read(stream, after=seen.seq))
        with env.journal.exclusive(stream):
            seen = fold_builds(seen, env.journal.read(stream, after=seen.seq))
            if seen.open is not None:
                end_scratch(env, stream.removeprefix(f"{BUILDS}/"))
                body = {"ending": "interrupted", "why": "its driver ended without a word"}
                entry = Entry("closed", env.clock.now().isoformat(), ACTOR, seen.open.id, body)
                env.journal.append(stream, seen.seq, [entry])


def _age(since: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(since)).total_seconds() if since else float("inf")

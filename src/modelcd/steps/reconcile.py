"""Keeping what is wanted true when nobody else is at it: one round over every endpoint of an environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from modelcd.environment import Environment
from modelcd.errors import Busy, CannotTell, ModelcdError
from modelcd.steps.tick import Watch, tick

ACTOR = "reconciler"

SILENCE = 3.0
"""Seconds without a record after which a release under way has nobody who drives it."""


@dataclass
class Reconciler:
    """Ticks the endpoints of *environments*; `say` is told what went wrong, once each time it changes."""

    environments: dict[str, Environment]
    say: Callable[[str], None]
    watches: dict[str, Watch] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def round(self) -> None:
        """Look at every endpoint once."""
        journal = next(iter(self.environments.values())).journal
        for stream in journal.streams():
            env = self.environments.get(stream.split("/", 1)[0])
            if env is not None:
                self._one(env, self.watches.setdefault(stream, Watch(stream)))

    def _one(self, env: Environment, watch: Watch) -> None:
        try:
            endpoint = watch.refresh(env)
            if endpoint.open is not None and _age(endpoint.changed, env.clock.now()) < SILENCE:
                return
            tick(env, watch, actor=ACTOR)
            self.troubles.pop(watch.stream, None)
        except Busy:
            return
        except (CannotTell, ModelcdError) as error:
            if self.troubles.get(watch.stream) != error.message:
                self.troubles[watch.stream] = error.message
                self.say(f"{watch.stream}: {error.message}")


def _age(since: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(since)).total_seconds() if since else float("inf")

"""Which calls of a port change the world, and a driver that dies at any of them.

Every method of every port is in exactly one of two tables (a test sees to it): `EFFECTS` leave something behind that
others see, `READS` do not.  `Faults` binds ports so that a hook is told before and after each effect; what the hook
does (note it, raise `Killed`, send this process SIGKILL) is up to the suite.

An effect is known by what it is done to and how often that was done, not by its number among all: two checks that run
side by side may come in either order.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, TypeVar, cast, get_type_hints

from modelcd.domain.records import Entry
from modelcd.environment import Environment
from modelcd.errors import Conflict

P = TypeVar("P")

EFFECTS: Mapping[str, frozenset[str]] = {
    "Journal": frozenset({"append", "exclusive"}),
    "Registry": frozenset({"add", "point"}),
    "Catalog": frozenset({"show"}),
    "Runtime": frozenset({"start", "stop"}),
    "Router": frozenset({"write"}),
    "Predictions": frozenset({"label"}),
    "Project": frozenset({"call"}),
    "Notifier": frozenset({"tell"}),
}
"""What leaves something behind: a record, a hold, a version, an alias, a process, a routing, a label, files, a word."""

READS: Mapping[str, frozenset[str]] = {
    "Journal": frozenset({"read", "heads"}),
    "Registry": frozenset({"versions", "fetch"}),
    "Catalog": frozenset({"shown"}),
    "Runtime": frozenset({"instances", "log"}),
    "Scoring": frozenset({"ready", "predict"}),
    "Router": frozenset({"read", "abilities", "url"}),
    "Metrics": frozenset({"counters"}),
    "Predictions": frozenset({"labelled", "scores", "counts"}),
    "Successes": frozenset({"judge"}),
    "Clock": frozenset({"now", "sleep"}),
}
"""What only looks, asks or waits; copies that an adapter keeps of what it read (`Registry.fetch`) are not the world."""

BEFORE, AFTER = "before", "after"


def overtaken() -> None:
    """Say, as a `Still`, that somebody else went on."""
    raise Conflict("somebody else went on", help="read again, decide again")


class Killed(BaseException):
    """The driver is dead: nothing it still runs on its way out (`except`, `finally`, other threads) does anything."""


@dataclass(frozen=True, order=True)
class Effect:
    """The *nth* time (from 1) that a driver does what *name* says."""

    name: str
    nth: int = 1

    @property
    def method(self) -> str:
        """Port and method, as in `Registry.add`."""
        return self.name.split(" ", 1)[0]


@dataclass(frozen=True, order=True)
class Moment:
    """A point in a driver's life: `when` is before or after *effect*, or the number of a change within it."""

    effect: Effect
    when: str

    def __str__(self) -> str:
        """Name the moment as people read it."""
        nth = f" #{self.effect.nth}" if self.effect.nth > 1 else ""
        return f"{self.when} {self.effect.name}{nth}"


Hook = Callable[[Moment], None]


class Faults:
    """Binds ports so that *hook* is told before and after each effect, in whichever thread it happens."""

    def __init__(self, hook: Hook) -> None:
        self.dead = False
        self._hook = hook
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def kill(self) -> None:
        """Let the driver be dead from here on; raises `Killed`."""
        self.dead = True
        raise Killed

    def environment(self, env: Environment) -> Environment:
        """Return *env* with every port watched."""
        return replace(env, **{name: self.port(port, getattr(env, name)) for name, port in _ports().items()})

    def port(self, name: str, port: P) -> P:
        """Return *port*, which is a *name*, watched."""
        return cast(P, _Watched(name, port, self))

    def breathe(self) -> None:
        """Raise `Killed` when the driver is dead."""
        if self.dead:
            raise Killed

    def count(self, name: str) -> Effect:
        """Return the effect *name* as the newest of its kind."""
        with self._lock:
            self._seen[name] += 1
            return Effect(name, self._seen[name])

    def at(self, effect: Effect, when: str) -> None:
        """Tell the hook, unless the driver is dead."""
        self.breathe()
        self._hook(Moment(effect, when))


class _Watched:
    """A port whose effects are told of; what is no method of its port is not there."""

    def __init__(self, name: str, port: Any, faults: Faults) -> None:
        self._name, self._port, self._faults = name, port, faults

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._port, method)
        if method in EFFECTS.get(self._name, ()):
            return lambda *given, **named: self._effect(method, real, *given, **named)
        if method in READS.get(self._name, ()):
            return lambda *given, **named: self._read(real, *given, **named)
        raise AttributeError(f"{self._name} has no method {method}")

    def _effect(self, method: str, real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self._faults.breathe()
        arguments = inspect.signature(real).bind(*given, **named).arguments
        effect = self._faults.count(f"{self._name}.{method} {_on(self._name, method, arguments)}".strip())
        if method == "exclusive":
            return _Hold(self._faults, effect, lambda: real(*given, **named))
        self._faults.at(effect, BEFORE)
        result = real(*given, **named)
        self._faults.at(effect, AFTER)
        return result

    def _read(self, real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self._faults.breathe()
        result = real(*given, **named)
        self._faults.breathe()
        return result


class _Hold:
    """A hold that ends with its driver, as the system would end it."""

    def __init__(self, faults: Faults, effect: Effect, take: Callable[[], AbstractContextManager[None]]) -> None:
        self._faults, self._effect, self._take = faults, effect, take

    def __enter__(self) -> None:
        self._faults.at(self._effect, BEFORE)
        self._held = self._take()
        self._held.__enter__()
        try:
            self._faults.at(self._effect, AFTER)
        except BaseException:
            self._held.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)


@cache
def _ports() -> Mapping[str, str]:
    """Return the name of the port that each field of an environment holds."""
    hints = {name: getattr(hint, "__name__", "") for name, hint in get_type_hints(Environment).items()}
    return {name: port for name, port in hints.items() if port in EFFECTS or port in READS}


def _on(port: str, method: str, arguments: Mapping[str, Any]) -> str:
    """Say in a few words what an effect is done to; ids that differ from run to run are left out."""
    match port, method:
        case "Journal", "append":
            return f"{arguments['stream']}: {', '.join(_record(entry) for entry in arguments['entries'])}"
        case "Journal", "exclusive":
            return str(arguments["stream"])
        case "Registry", "point":
            return f"{arguments['alias']} to {arguments['number']}"
        case "Runtime", "start":
            return str(arguments["unit"].id)
        case "Runtime", "stop":
            return str(arguments["instance"])
        case "Router", "write":
            shares = ", ".join(f"{arm.version} {arm.share:g} %" for arm in arguments["routing"].arms)
            return f"{arguments['endpoint']}: {shares}"
        case "Project", "call":
            return str(arguments["command"])
        case _:
            return ""


def _record(entry: Entry) -> str:
    what = entry.body.get("effect") or entry.body.get("name") or entry.body.get("ask") or ""
    return f"{entry.kind} {what}".strip()


def every(names: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the methods of one of the tables as `Port.method`."""
    return {f"{port}.{method}" for port, methods in names.items() for method in methods}

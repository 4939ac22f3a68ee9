"""The way back that a person asks for: out of a release under way, or from the champion to the version before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from modelcd.domain.records import Record
from modelcd.domain.release import Ask, Release
from modelcd.environment import Environment
from modelcd.errors import Rejected, UnknownName, UsageError
from modelcd.steps import build
from modelcd.steps.release import Candidate, ask, drive, open_release, settle, told_of
from modelcd.steps.tick import Ticked
from modelcd.steps.watch import Watch

UNSAID = "no reason given"


def candidate_of(env: Environment, model: str, version: int, *, at_once: bool = False) -> Candidate:
    """Return the proven *version* of *model*, by the ladder of *env* or, where no traffic has to be won, *at_once*.

    Raises `UnknownName`, `Rejected` for one that did not pass its gates, `ProjectError` without a rollout into *env*.
    """
    builds = build.read_builds(env, model)
    if version not in builds.built:
        raise UnknownName("version", str(version), [str(number) for number in builds.built])
    if version not in builds.proven:
        delivery = builds.built[version]["delivery"]
        raise Rejected(f"version {version} of {model} did not pass its gates", help=f"why: modelcd explain {delivery}")
    return build.candidate_from(model, builds.proven[version], "" if at_once else env.name)


def begin_rollback(env: Environment, model: str, who: str, reason: str, to: int | None, *, id: str) -> Watch:
    """Ask the release under way to go back, or open one, named *id*, that brings the version before back."""
    watch = Watch(env.stream(model))
    endpoint = watch.refresh(env)
    under_way = endpoint.open
    if under_way is not None and under_way.by_rollback and to in (None, under_way.version):
        return watch  # somebody began this very rollback and did not end it
    if under_way is not None and to is None:
        return ask(env, model, Ask.ROLL_BACK, actor=who, reason=reason or UNSAID)
    target = to if to is not None else endpoint.before
    if target is None:
        why = f"{model} has no earlier version in {env.name} to go back to that was not itself taken out"
        raise UsageError(why, help=f"see: modelcd history {model}; a certain one: modelcd rollback {model} --version N")
    if target == endpoint.champion:
        raise UsageError(f"version {target} serves {env.name} already", help="see: modelcd status")
    if target not in endpoint.champions:
        why = f"version {target} of {model} never had all of {env.name}: there is nothing to go back to"
        raise UsageError(why, help=f"release it as any other: modelcd promote {model} {target} --to {env.name}")
    candidate = candidate_of(env, model, target, at_once=True)
    return open_release(env, candidate, release=id, actor=who, reason=reason or UNSAID, takes_out=endpoint.champion)


def roll_back(
    env: Environment,
    watch: Watch,
    *,
    actor: str,
    tell: Callable[[Ticked], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    revive: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Drive what `begin_rollback` began to its end; returns it as plain values, `safe_after` and `cold` among them.

    *say* is told how long it will take when the version to go back to does not run, and when users are safe.
    """
    target = _leads_to(watch.endpoint.releases[-1])
    cold = not any(i.alive for i in env.runtime.instances(watch.stream) if i.version == target)
    expected = took_to_start(env.journal.read(watch.stream), target)
    if cold:
        before = f"about {expected:.1f} s, as the last time" if expected is not None else "as long as it takes"
        say(f"version {target} does not run any more; starting it takes {before}")
    began, safe = env.clock.now(), list[float]()

    def look(ticked: Ticked) -> None:
        # Whoever went back: another driver of the same release may have been faster.
        served, confirmed = ticked.endpoint.served, ticked.endpoint.confirmed
        if not safe and confirmed and served is not None and served.share(target) == 100:
            safe.append((env.clock.now() - began).total_seconds())
            say(f"version {target} serves everything, after {safe[0]:.2f} s")
        tell(ticked)

    release = drive(env, watch, actor=actor, tell=look, revive=revive)
    settle(env, watch, actor=actor)
    return {**told_of(release), "cold": cold, "expected": expected, "safe_after": safe[0] if safe else None}


def _leads_to(release: Release) -> int:
    return release.version if release.by_rollback or release.champion is None else release.champion


def took_to_start(records: Iterable[Record], version: int) -> float | None:
    """Return how many seconds *version* took from its newest start until it was ready to serve, if that is known."""
    began, took = "", None
    for record in records:
        entry = record.entry
        if entry.kind != "intended":
            continue
        if entry.body["effect"] == "start" and entry.body["version"] == version:
            began = entry.at
        elif began and entry.body["effect"] in ("warm", "rehearse", "shift"):
            took = (datetime.fromisoformat(entry.at) - datetime.fromisoformat(began)).total_seconds()
            began = ""
    return took

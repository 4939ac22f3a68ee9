"""Acting: each move as a plain function over ports, its intent recorded before it and its outcome after."""

from __future__ import annotations

import json
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, assert_never

from modelcd.artifact import digest_of
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import AT_ONCE
from modelcd.domain.release import Endpoint
from modelcd.domain.rollout import Close, Move, Open, Point, Rehearse, Shift, Start, Stop, Wait, Warm, World
from modelcd.domain.routing import Routing
from modelcd.domain.samples import Counters, counters_plain
from modelcd.environment import Environment
from modelcd.errors import Conflict, MetricsError, ModelcdError, NotReady, RegistryError, RuntimeFailure
from modelcd.ports import Still, Unit
from modelcd.steps.watch import Watch, record


def carry_out(env: Environment, watch: Watch, move: Move, actor: str) -> None:
    """Do *move*: the intent is recorded before it, the outcome after; a failure is recorded and raised."""
    if isinstance(move, Close):
        release = watch.endpoint.open
        exposed = counters_plain(release.exposed) if release else {}
        body: dict[str, Any] = {"ending": move.ending.value, "reason": move.why, "exposed": exposed}
        if release is not None and release.by_rollback:
            body |= {"version": release.version, "takes_out": release.takes_out}
        return record(env, watch, "closed", actor, body)
    if isinstance(move, Open):
        return record(env, watch, "opened", actor, _opening(watch, move), move.release)
    if _repairs(watch.endpoint, move):
        record(env, watch, "repaired", actor, {"what": move.why, "move": type(move).__name__.lower()})
    intent = _intent(move)
    record(env, watch, "intended", actor, intent)
    try:
        result = _do(env, watch, move, partial(_refuse_overtaken, env, watch))
    except Conflict:
        raise  # nothing was done, and whoever went on has written what there is to say
    except ModelcdError as error:
        record(env, watch, "failed", actor, {**intent, "error": error.message, "help": error.help})
        raise
    record(env, watch, "done", actor, {**intent, **result})


def _opening(watch: Watch, move: Open) -> dict[str, Any]:
    """Return what opens the way back that a person's rollback would open: all it needs is in this journal already."""
    known = watch.openings[move.version]
    back = {"champion": watch.endpoint.champion, "takes_out": move.takes_out, "reason": move.why}
    return {**known, "policy": to_plain(AT_ONCE), **back}


def found_done(env: Environment, watch: Watch, world: World, actor: str) -> None:
    """Record the outcome of a start or a stop whose driver died before it could: it is seen to be done.

    Every other effect without an outcome is done once more, because what decides does not know of it.
    """
    effect, version = watch.endpoint.pending.get("effect"), watch.endpoint.pending.get("version")
    started = effect == "start" and version in world.ready
    stopped = effect == "stop" and version not in world.ready and version not in world.dead
    if started or stopped:
        record(env, watch, "done", actor, {**watch.endpoint.pending, "found": True})


def _repairs(endpoint: Endpoint, move: Move) -> bool:
    """Say whether *move* restores what was so before, instead of leading the release on."""
    release = endpoint.open
    if release is None:
        return not (isinstance(move, (Shift, Stop)) and move.retires)
    return (isinstance(move, Start) and move.again) or (
        isinstance(move, Shift) and not move.back and endpoint.confirmed and move.step == release.step
    )


def _refuse_overtaken(env: Environment, watch: Watch) -> None:
    """Raise `Conflict` when somebody else wrote since the intent.

    A driver that stood still here (a stopped process, a machine asleep) was taken for dead, and others went on: what it
    was about to do may be wrong by now.
    """
    if newer := env.journal.read(watch.stream, after=watch.endpoint.seq):
        raise Conflict(
            f"{watch.stream}: {newer[0].entry.actor} went on while this driver stood still",
            help="nothing was done; read again, decide again",
        )


def _intent(move: Move) -> dict[str, Any]:
    match move:
        case Start():
            return {"effect": "start", "version": move.version, "why": move.why, "again": move.again}
        case Warm():
            return {"effect": "warm", "version": move.version, "why": move.why}
        case Rehearse():
            return {"effect": "rehearse", "routing": move.back.to_plain(), "why": move.why}
        case Shift():
            plain = move.routing.to_plain()
            return {"effect": "shift", "routing": plain, "step": move.step, "why": move.why, "back": move.back}
        case Point():
            return {"effect": "point", "version": move.version, "why": move.why}
        case Stop():
            return {"effect": "stop", "version": move.version, "why": move.why}
        case Close() | Open() | Wait():
            raise AssertionError("closing and opening are one record each, waiting is none")
        case _:
            assert_never(move)


def _do(env: Environment, watch: Watch, move: Move, still: Still) -> dict[str, Any]:
    match move:
        case Start():
            return _start(env, watch, move.version, still)
        case Warm():
            return _warm(env, watch, move.version)
        case Rehearse():
            return _rehearse(env, watch, move, still)
        case Shift():
            return _shift(env, watch, move, still)
        case Point():
            return _point(env, watch, move.version, still)
        case Stop():
            for instance in env.runtime.instances(watch.stream):
                if instance.version == move.version:
                    env.runtime.stop(instance.id, still)
            return {}
        case Close() | Open() | Wait():
            raise AssertionError("closing and opening are one record each, waiting is none")
        case _:
            assert_never(move)


def _start(env: Environment, watch: Watch, version: int, still: Still) -> dict[str, Any]:
    model = watch.endpoint.model
    opening = watch.openings.get(version)
    if opening is None:
        raise RuntimeFailure(f"version {version} was never released into {watch.endpoint.environment}")
    artifact = Path(opening["artifact"])
    if digest_of(artifact) != opening["digest"]:
        artifact = env.registry.fetch(model, version)
        if digest_of(artifact) != opening["digest"]:
            raise RuntimeFailure(
                f"version {version} of {model} is not what was released: its artifact has changed",
                help="restore it from a backup, or build and deliver it anew",
            )
    unit = Unit(watch.stream, model, version, opening["digest"], artifact, interpreter=opening["interpreter"])
    instance = env.runtime.start(unit, still)
    return {"instance": instance.id, "address": instance.address}


def _warm(env: Environment, watch: Watch, version: int) -> dict[str, Any]:
    """Send the golden rows one by one, round and round, as users would; the answers are nobody's evidence."""
    release = watch.endpoint.open
    assert release is not None, "only a challenger is warmed up"
    try:
        rows = json.loads(Path(release.warm_up).read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError) as error:
        return {"requests": 0, "skipped": f"its rows could not be read: {error}"}
    address = next(i.address for i in env.runtime.instances(watch.stream) if i.version == version)
    began, sent = env.clock.now(), 0
    for row in islice(cycle(rows), release.policy.warm_up):
        left = release.policy.warm_up_budget - (env.clock.now() - began).total_seconds()
        if left <= 0:
            raise NotReady(f"version {version} answered {sent} requests within {release.policy.warm_up_budget:g} s")
        env.scoring.predict(address, [row], timeout=left)
        sent += 1
    return {"requests": sent, "seconds": round((env.clock.now() - began).total_seconds(), 3)}


def _rehearse(env: Environment, watch: Watch, move: Rehearse, still: Still) -> dict[str, Any]:
    """Put the challenger before the gateway without a share, and go back from there, timed."""
    _write(env, watch, move.there, still)
    began = env.clock.now()
    _write(env, watch, move.back, still)
    return {"routing": move.back.to_plain(), "seconds": (env.clock.now() - began).total_seconds()}


def _write(env: Environment, watch: Watch, routing: Routing, still: Still) -> None:
    addresses = {i.version: i.address for i in env.runtime.instances(watch.stream)}
    env.router.write(watch.stream, routing, {v: addresses[v] for v in routing.versions if v in addresses}, still)


def _shift(env: Environment, watch: Watch, move: Shift, still: Still) -> dict[str, Any]:
    routing = move.routing
    _write(env, watch, routing, still)
    try:
        counters = env.metrics.counters(watch.stream)
    except MetricsError:
        release = watch.endpoint.open
        if release is not None and 0 <= move.step < len(release.policy.shares):
            raise  # where this step's evidence begins must be known
        return {"counters": {}}
    return {"counters": {str(v): counters_plain(counters.get(v, Counters())) for v in routing.versions}}


def _point(env: Environment, watch: Watch, version: int, still: Still) -> dict[str, Any]:
    try:
        env.registry.point(watch.endpoint.model, env.name, version, still)
    except RegistryError as error:
        return {"alias": f"not moved: {error.message}"}
    return {"alias": env.name}

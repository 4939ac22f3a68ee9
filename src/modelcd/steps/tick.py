"""The engine: read what is, decide, write the intent, act, read back, write the outcome.

A tick is short and safe to repeat; it is the only thing that moves traffic.  Whoever calls it (a flow, a shell, the
reconciler) is only a driver: ticks of one endpoint exclude each other, and the journal refuses a writer who has not
read its newest record.  A `Watch` is a driver's reading of one endpoint; it may be thrown away at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelcd.domain.release import LONGEST_LOOK, Endpoint, summary
from modelcd.domain.rollout import Judged, Move, Open, Shift, Wait, World, decide
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.steps.effects import carry_out, found_done
from modelcd.steps.late import look_late
from modelcd.steps.observe import NOTHING_YET, look, observe
from modelcd.steps.watch import Watch, record

MOVES = 12
"""Moves at most in one tick, so that it stays short whatever it is asked to do."""


@dataclass(frozen=True)
class Ticked:
    """What a tick did, and what it waits for now; with *more*, it waits for nothing and wants to be called again."""

    endpoint: Endpoint
    moves: tuple[Move, ...]
    wait: Wait
    findings: tuple[Finding, ...] = ()
    more: bool = False


def tick(env: Environment, watch: Watch, *, actor: str, wait: float = 0.0, aliases: bool = False) -> Ticked:
    """Bring the endpoint of *watch* as far as it can go now; with *aliases*, the registry's view of it as well.

    Raises `Busy` when another tick of it does not end within *wait* seconds, `Conflict` when another writer was
    faster, and whatever a port could not find out.
    """
    with env.journal.exclusive(watch.stream, wait):
        watch.refresh(env)
        moves: list[Move] = []
        world = look(env, watch.endpoint, aliases=aliases)
        found_done(env, watch, world, actor)
        judged, late = observe(env, watch, world, actor), look_late(env, watch, actor)
        judged = judged if watch.endpoint.open is not None else late
        while len(moves) < MOVES:
            move = decide(watch.endpoint, world, judged, env.clock.now())
            if isinstance(move, Wait):
                _note(env, watch, world, judged, move, actor)
                return Ticked(watch.endpoint, tuple(moves), move, watch.findings)
            if isinstance(move, Open) and moves:
                break  # whoever drove what ended just now is told of that first
            carry_out(env, watch, move, actor)
            moves.append(move)
            if isinstance(move, Shift):
                break  # who waits for the traffic to move is told before anything else is done
            world, judged = look(env, watch.endpoint), NOTHING_YET
        return Ticked(watch.endpoint, tuple(moves), Wait("more to do"), watch.findings, more=True)


def tick_on(env: Environment, watch: Watch, *, actor: str, wait: float = 0.0, aliases: bool = False) -> Ticked:
    """Tick until there is something to wait for; raises what `tick` raises."""
    while (ticked := tick(env, watch, actor=actor, wait=wait, aliases=aliases)).more:
        aliases = False
    return ticked


def _note(env: Environment, watch: Watch, world: World, judged: Judged, move: Wait, actor: str) -> None:
    """Record what a later look depends on: who is silent since when, that somebody watched; and how things stand."""
    endpoint = watch.endpoint
    if endpoint.open is None and not endpoint.releases:
        return
    serving = endpoint.wanted.serving if endpoint.wanted else ()
    silent = {v: world.ready[v] for v in serving if world.ready.get(v)}
    trouble = judged.reason if judged.verdict is Verdict.ERROR else ""
    asks = move.why if move.asks and not (endpoint.failures or endpoint.held) else ""
    changed = set(silent) != set(endpoint.unready) or trouble != endpoint.trouble or bool(asks) != bool(endpoint.asks)
    idle = (env.clock.now() - datetime.fromisoformat(endpoint.changed)).total_seconds()
    if changed or ((silent or endpoint.open is not None) and idle >= LONGEST_LOOK / 2):
        body = {"unready": {str(v): why for v, why in silent.items()}, "trouble": trouble, "asks": asks}
        record(env, watch, "seen", actor, body)
    elif endpoint.open is None and endpoint.seq != endpoint.checkpoint and not silent:
        record(env, watch, "checkpoint", actor, summary(endpoint))

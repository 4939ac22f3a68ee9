"""Opening a release and driving it to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelcd.domain.plain import to_plain
from modelcd.domain.policy import Canary
from modelcd.domain.release import Ask, Endpoint, Release
from modelcd.domain.routing import Arm, Routing, Unit
from modelcd.domain.story import ending
from modelcd.domain.trace import GENERATION
from modelcd.domain.verdict import Finding, finding_plain
from modelcd.environment import Environment
from modelcd.errors import Busy, CannotTell, ConfigurationError, Conflict, Refused, Rejected, UsageError
from modelcd.steps.tick import Ticked, tick, tick_on
from modelcd.steps.watch import Watch, record

TICK_EVERY = 0.25
"""Seconds between two ticks of a driver."""

STARTING = 0.05
"""Seconds between two ticks while a version starts, then longer and longer: it is often soon ready."""

PATIENCE = 30.0
"""Seconds that a driver goes on when a port cannot be read, before it leaves the release to the reconciler."""


@dataclass(frozen=True)
class Candidate:
    """A version that is ready to be released: what the journal must know to run it without anybody's help.

    *golden* is a file with rows that it was asked for when it was accepted; they warm it up elsewhere.
    """

    model: str
    version: int
    digest: str
    artifact: str
    interpreter: str
    snapshot: str
    policy: Canary
    findings: Sequence[Finding] = field(default_factory=tuple)
    golden: str = ""


def open_release(
    env: Environment,
    candidate: Candidate,
    *,
    release: str,
    actor: str,
    reason: str,
    again: str = "",
    takes_out: int | None = None,
) -> Watch:
    """Record that *candidate* wants into *env*; nothing moves yet.

    Raises `Busy` while another release is open there, `Rejected` for a version that was rolled back before unless
    *again* says why, `ConfigurationError` for what the traffic layer cannot do.  *takes_out* names the version that a
    person wants to be rid of by this.
    """
    watch = Watch(env.stream(candidate.model))
    with env.journal.exclusive(watch.stream, 10.0):
        endpoint = watch.refresh(env)
        if endpoint.open is not None:
            raise busy(endpoint, endpoint.open)
        if takes_out is None:
            refuse_held(endpoint)
            refuse_rejected(endpoint, candidate.version, again)
        refuse_impossible(env, candidate.policy)
        body = {
            "version": candidate.version,
            "digest": candidate.digest,
            "artifact": candidate.artifact,
            "interpreter": candidate.interpreter,
            "snapshot": candidate.snapshot,
            "warm_up": candidate.golden,
            "policy": to_plain(candidate.policy),
            "champion": endpoint.champion,
            "judge": GENERATION,
            "reason": again or reason,
            "takes_out": takes_out,
            "evidence": [finding_plain(finding) for finding in candidate.findings],
        }
        record(env, watch, "opened", actor, body, release)
    return watch


def busy(endpoint: Endpoint, release: Release) -> Busy:
    """Say who is releasing what."""
    return Busy(
        f"release {release.id} of version {release.version} into {endpoint.environment} is under way"
        f" (by {release.actor}, since {release.opened[11:19]} UTC)",
        help=f"watch it: modelcd status {endpoint.model}; end it: modelcd rollback {endpoint.model}",
    )


def refuse_held(endpoint: Endpoint) -> None:
    """Raise `Refused` when a person took over and has not let go."""
    if endpoint.held:
        since = endpoint.held_since[:16].replace("T", " ")
        raise Refused(
            f"{endpoint.model} in {endpoint.environment} is held by {endpoint.held} since {since} UTC",
            help=f"let modelcd go on with it: modelcd release {endpoint.model}",
        )


def refuse_rejected(endpoint: Endpoint, version: int, again: str) -> None:
    """Raise `Rejected` when *version* was rolled back here and nobody gave a reason to try it again."""
    before = endpoint.rejected(version)
    if before is not None and not again:
        if before.takes_out == version:
            what, why = "taken out by a rollback", before.reason
        else:
            what, why = str(before.ending), str(before.closing.get("reason", ""))
        raise Rejected(
            f"version {version} was {what}, release {before.id}: {why}",
            help='change what was wrong, or say why it should be tried again: --again "reason"',
        )


def refuse_impossible(env: Environment, policy: Canary) -> None:
    """Raise `ConfigurationError` when the traffic layer cannot do what *policy* will ask of it."""
    if not policy.shares:
        return
    arms = (Arm(1, 100 - policy.shares[0]), Arm(2, policy.shares[0]))
    routing = Routing(arms, unit=policy.unit, fallback=1 if policy.fallback else None)
    missing = env.router.abilities().missing(routing)
    if policy.unit is not Unit.REQUEST:
        # Requests of one user are not independent: judged one by one, half of all good versions would go back.
        missing.append(f"counting outcomes by {policy.unit}")
    if missing:
        raise ConfigurationError(
            f"the traffic layer of {env.name} cannot do: {', '.join(missing)}",
            help="change rollout= in pipeline.py; shares=() is blue/green and works everywhere",
        )


def ask(env: Environment, model: str, what: Ask, *, actor: str, reason: str = "") -> Watch:
    """Record what a person wants; the next tick does it.  Only a hold and its end make sense without a release."""
    watch = Watch(env.stream(model))
    with env.journal.exclusive(watch.stream, 10.0):
        endpoint = watch.refresh(env)
        if what is Ask.RESUME and not endpoint.held:
            raise UsageError(f"{model} is not held in {env.name}", help="see: modelcd status")
        if what is Ask.ROLL_BACK and endpoint.open is None:
            raise UsageError(f"no release of {model} into {env.name} is under way", help="see: modelcd status")
        record(env, watch, "asked", actor, {"ask": what.value, "reason": reason})
    return watch


def drive(
    env: Environment,
    watch: Watch,
    *,
    actor: str,
    tell: Callable[[Ticked], None] = lambda _: None,
    revive: Callable[[], None] = lambda: None,
    until: Callable[[Release], bool] = lambda _: False,
) -> Release:
    """Tick until the newest release has ended, waits for a person, or is *until*; returns it as it stands.

    What cannot be read for a while is tried again, with *revive* in between; after `PATIENCE` seconds the error is
    raised, as is at once what *revive* refuses, and the release is left, in a safe state, to whoever ticks next.
    """
    trouble_since, pause = None, STARTING
    while True:
        try:
            ticked = tick(env, watch, actor=actor, wait=5.0)
            trouble_since = None
        except Conflict:
            continue
        except (CannotTell, Busy):
            now = env.clock.now()
            trouble_since = trouble_since or now
            if (now - trouble_since).total_seconds() > PATIENCE:
                raise
            with contextlib.suppress(CannotTell, Busy):
                revive()
            env.clock.sleep(TICK_EVERY)
            continue
        release = watch.endpoint.releases[-1]
        tell(ticked)
        if release.ending is not None or ticked.wait.asks or until(release):
            return release
        if not ticked.more:
            env.clock.sleep(TICK_EVERY if release.step >= 0 else pause)
            pause = min(1.2 * pause, TICK_EVERY)


def settle(env: Environment, watch: Watch, *, actor: str) -> None:
    """Tick on, so that what nobody needs is let go of; trouble is left to the reconciler."""
    try:
        tick_on(env, watch, actor=actor, wait=1.0)
    except (CannotTell, Busy):
        return


def told_of(release: Release) -> dict[str, Any]:
    """Return how *release* stands as plain values: its ending, or "waiting" while it has none."""
    why = str(release.closing.get("reason", "")) or str(release.judgement.get("reason", ""))
    place, model = release.stream.split("/", 1)
    return {
        "ending": ending(release) or "waiting",
        "why": why,
        "model": model,
        "version": release.version,
        "release": release.id,
        "environment": place,
        "champion": release.champion,
        "takes_out": release.takes_out,
        "exposed": dict(release.closing.get("exposed", {})),
        "findings": list(release.judgement.get("findings", [])),
    }

"""A version that an environment took back leaves the one before it, by a release there like any other."""

from __future__ import annotations

from modelcd.domain.delivery import stream_of
from modelcd.domain.demotion import demotion
from modelcd.environment import Environment
from modelcd.steps.build import read_builds
from modelcd.steps.release import open_release
from modelcd.steps.rollback import candidate_of
from modelcd.steps.watch import Watch


def demote(env: Environment, later: Environment, watch: Watch, later_watch: Watch, actor: str) -> bool:
    """Open the way back in *env* from a champion that *later* took back; says whether there was one to open.

    While a delivery of the model is under way nothing is opened: what it staged is being accepted.  Raises `Busy`
    while somebody holds the model's builds.
    """
    if demotion(watch.endpoint, later_watch.endpoint) is None:
        return False
    model = watch.endpoint.model
    with env.journal.exclusive(stream_of(model)):
        back = demotion(watch.refresh(env), later_watch.refresh(later))
        if back is None or read_builds(env, model).open is not None:
            return False
        candidate = candidate_of(env, model, back.version, at_once=True)
        open_release(env, candidate, release=back.release, actor=actor, reason=back.why, takes_out=back.takes_out)
    return True

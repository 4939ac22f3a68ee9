"""Judging on: labels that come after a promotion, of requests that were served before it, can reopen its verdict.

A label belongs to the routing under which its request was served, so both arms are compared as they were on the
ladder, by the very judge of the release and against the same bar: a look that comes late spends nothing that was not
budgeted.  Requests served at 100 % have no control group and are left out.  Nothing here moves anything; what is known
by then stands in the journal, and `decide` leads back.

Trade-off: moments of looks depend on the clock alone, and a look that finds nothing is not recorded.  A driver that
begins anew reads once more what came since the last record of it, and computes the judge from the whole release.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from modelcd.domain import judge as judging
from modelcd.domain.records import Record
from modelcd.domain.release import Release
from modelcd.domain.rollout import Judged, reopened
from modelcd.domain.samples import Block, block_from, block_plain
from modelcd.domain.verdict import Verdict
from modelcd.environment import Environment
from modelcd.errors import CannotTell
from modelcd.steps.observe import NOTHING_YET, judgement_plain
from modelcd.steps.outcomes import outcomes_since
from modelcd.steps.watch import Late, Watch, record

LATE_EVERY = (60.0, 600.0)
"""Seconds between two looks for late labels: a sixtieth of the time since the promotion, within these bounds."""


def look_late(env: Environment, watch: Watch, actor: str) -> Judged:
    """Take the late labels since the last look, if it is time for one, and record what they come to, if any came."""
    now = env.clock.now()
    release = watch.endpoint.watched(now)
    if release is None or watch.endpoint.reopened:
        watch.late = None
        return NOTHING_YET
    late = watch.late
    if late is None or late.release != release.id or late.recorded != release.label_cursor:
        # Nobody looked yet, or another driver did since.
        looked = late.looked if late is not None and late.release == release.id else None
        late = Late(release.id, release.label_cursor, release.label_cursor, looked)
    watch.late = late if _recent(late, release, now) else _look(env, watch, late, release, actor)
    if watch.late.trouble:
        return Judged(Verdict.ERROR, f"late labels could not be judged: {watch.late.trouble}")
    judged = watch.endpoint.promotion.judgement if watch.endpoint.promotion is not None else {}
    return Judged(Verdict(judged["verdict"]), str(judged["reason"])) if judged else NOTHING_YET


def _recent(late: Late, release: Release, now: datetime) -> bool:
    if late.looked is None:
        return False
    often, seldom = LATE_EVERY
    since = (now - datetime.fromisoformat(release.ended)).total_seconds()
    return 0 <= (now - late.looked).total_seconds() < min(max(often, since / 60), seldom)


def _look(env: Environment, watch: Watch, late: Late, release: Release, actor: str) -> Late:
    looked = replace(late, looked=env.clock.now(), trouble="")
    try:
        outcomes = outcomes_since(env, watch, replace(release, label_cursor=late.cursor))
    except CannotTell as error:
        return replace(looked, trouble=error.message)
    if not outcomes.any:
        return replace(looked, cursor=outcomes.cursor)
    before = late.judge or judge_of(env.journal.read(watch.stream), release)
    # It has no requests, and so no routing of its own; the last rung's tolerance is that of the promotion.
    revision, step = max(release.rungs.items(), key=lambda rung: rung[1])
    block = Block(revision, step, labels=outcomes.labels, sums=outcomes.sums, unit=release.policy.unit)
    judge = judging.update(before, block)
    judgement = judging.finding(judge, step)
    follows = ""
    if judgement.verdict is Verdict.FAIL:
        follows = reopened(watch.endpoint, judgement.reason).why
    body = {
        "block": block_plain(block),
        "cursor": outcomes.cursor,
        "judgement": judgement_plain(judgement, step, release.judgement),
        "follows": follows,
    }
    record(env, watch, "late", actor, body, release.id)
    return Late(release.id, outcomes.cursor, outcomes.cursor, looked.looked, judge)


def judge_of(records: Iterable[Record], release: Release) -> judging.Judge:
    """Return the judge of *release* after all *records* of its stream that it was given, late labels included."""
    judge = judging.start(release.policy)
    for entry in (known.entry for known in records):
        if entry.release == release.id and entry.kind in ("observed", "late") and entry.body["block"]:
            judge = judging.update(judge, block_from(entry.body["block"]))
    return judge

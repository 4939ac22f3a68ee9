"""Judging on: labels that come after a promotion, of requests that were served before it, can reopen its verdict.

A label belongs to the routing under which its request was served, so both arms are compared as they were on the
ladder, by the very judge of the release and against the same bar: a look that comes late spends nothing that was not
budgeted.  Requests served at 100 % have no control group and are left out.  Nothing here moves anything; what is known
by then stands in the journal, and `decide` leads back.

Of a release that was rolled back only changes of labels that it used are followed: nothing moves, and who asks what
became of it is told that its verdict does not stand.

Trade-off: moments of looks depend on the clock alone, and a look that finds nothing is not recorded.  A driver that
begins anew reads once more what came since the last record of it, and computes the judge from the whole release.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from modelcd.domain import judge as judging
from modelcd.domain.records import Record
from modelcd.domain.release import Ending, Endpoint, Release
from modelcd.domain.restated import looks_of, restated, weighed
from modelcd.domain.rollout import Judged, reopened
from modelcd.domain.samples import Block, block_from, block_plain
from modelcd.domain.verdict import Verdict
from modelcd.environment import Environment
from modelcd.errors import CannotTell
from modelcd.steps.observe import NOTHING_YET, judgement_plain, told_of_labels
from modelcd.steps.outcomes import outcomes_since
from modelcd.steps.watch import Late, Watch, record

LATE_EVERY = (60.0, 600.0)
"""Seconds between two looks for late labels: a sixtieth of the time since the promotion, within these bounds."""


def look_late(env: Environment, watch: Watch, actor: str) -> Judged:
    """Take the late labels since the last look, if it is time for one, and record what they come to, if any came."""
    now = env.clock.now()
    release, under_way = watch.endpoint.watched(now), watch.endpoint.open
    if under_way is not None and (under_way.by_rollback or under_way.returning or under_way.asked):
        return NOTHING_YET  # a way back waits for nothing
    watch.late_back = _followed(env, watch, watch.late_back, _taken_back(watch.endpoint, now), actor)
    if release is None or watch.endpoint.reopened:
        watch.late = None
        return NOTHING_YET
    watch.late = late = _followed(env, watch, watch.late, release, actor)
    if late is not None and late.trouble:
        return Judged(Verdict.ERROR, f"late labels could not be judged: {late.trouble}")
    judged = watch.endpoint.promotion.judgement if watch.endpoint.promotion is not None else {}
    return Judged(Verdict(judged["verdict"]), str(judged["reason"])) if judged else NOTHING_YET


def _taken_back(endpoint: Endpoint, now: datetime) -> Release | None:
    """Return the newest release if it was rolled back, and changes of labels that it used are still followed."""
    release = endpoint.releases[-1] if endpoint.releases else None
    if release is None or release.ending is not Ending.ROLLED_BACK or not release.amended.used:
        return None
    since = (now - datetime.fromisoformat(release.ended)).total_seconds()
    return release if since < release.policy.watch else None


def _followed(env: Environment, watch: Watch, late: Late | None, release: Release | None, actor: str) -> Late | None:
    """Look for labels of the closed *release*, if it is time for that; returns what is known of them then."""
    if release is None:
        return None
    if late is None or late.release != release.id or late.recorded != release.label_cursor:
        # Nobody looked yet, or another driver did since.
        looked = late.looked if late is not None and late.release == release.id else None
        late = Late(release.id, release.label_cursor, release.label_cursor, looked)
    return late if _recent(late, release, env.clock.now()) else _look(env, watch, late, release, actor)


def _recent(late: Late, release: Release, now: datetime) -> bool:
    if late.looked is None:
        return False
    often, seldom = LATE_EVERY
    since = (now - datetime.fromisoformat(release.ended)).total_seconds()
    return 0 <= (now - late.looked).total_seconds() < min(max(often, since / 60), seldom)


def _look(env: Environment, watch: Watch, late: Late, release: Release, actor: str) -> Late:
    looked = replace(late, looked=env.clock.now(), trouble="")
    promoted = release.ending is Ending.PROMOTED
    try:
        outcomes = outcomes_since(env, watch, replace(release, label_cursor=late.cursor))
    except CannotTell as error:
        return replace(looked, trouble=error.message)
    told = told_of_labels(env, watch.stream, release, outcomes)
    if not (promoted and outcomes.any) and "amended" not in told:
        return replace(looked, cursor=outcomes.cursor)
    records = env.journal.read(watch.stream)
    judge = late.judge or judge_of(records, release)
    # It has no requests, and so no routing of its own; the last rung's tolerance is that of the promotion.
    revision, step = max(release.rungs.items(), key=lambda rung: rung[1])
    labels, sums, told_by = outcomes.labels, outcomes.sums, outcomes.told_by
    block = Block(revision, step, labels=labels, sums=sums, told_by=told_by, unit=release.policy.unit)
    counted = promoted and bool(outcomes.labels or outcomes.sums)
    judge = judging.update(judge, block) if counted else judge
    body = {"block": block_plain(block) if counted else None, "cursor": outcomes.cursor, **told}
    body |= {} if promoted else {"closed": True}
    amended, seen, now = release.amended.after(body), judging.finding(judge, step), None
    if amended.any:
        looks = [*looks_of(records, release.id), (watch.endpoint.seq + 1, body)]
        now = judging.finding(restated(release.policy, looks), step)
    judgement = weighed(seen, now, amended)
    follows = ""
    if promoted and judgement.verdict is Verdict.FAIL:
        follows = reopened(watch.endpoint, judgement.reason).why
    body |= {"judgement": judgement_plain(judgement, step, release.judgement), "follows": follows}
    record(env, watch, "late", actor, body, release.id)
    return Late(release.id, outcomes.cursor, outcomes.cursor, looked.looked, judge)


def judge_of(records: Iterable[Record], release: Release) -> judging.Judge:
    """Return the judge of *release* after all *records* of its stream that it was given, late labels included."""
    judge = judging.start(release.policy)
    for _, body in looks_of(records, release.id):
        if body["block"]:
            judge = judging.update(judge, block_from(body["block"]))
    return judge

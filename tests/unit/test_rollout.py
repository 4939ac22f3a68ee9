"""What is decided next, from what is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcd.domain.policy import Canary, Guard, GuardKind, OnDoubt
from modelcd.domain.release import Ending, Endpoint, Release
from modelcd.domain.rollout import (
    CRASHES,
    HUNG,
    PATIENCE,
    Close,
    Judged,
    Open,
    Point,
    Rehearse,
    Shift,
    Start,
    Stop,
    Wait,
    Warm,
    World,
    decide,
    reopened,
)
from modelcd.domain.routing import Arm, Routing
from modelcd.domain.verdict import Verdict

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ERRORS = Guard("errors", GuardKind.ERRORS, margin=0.01)
POLICY = Canary(shares=(5, 25, 50), guards=(ERRORS,))
BOTH = {1: "", 2: ""}


def at(step: int, policy: Canary = POLICY, **changes: object) -> Endpoint:
    """An endpoint whose champion is version 1, with version 2 on *step* of its ladder."""
    routing = Routing.all_to(1)
    if 0 <= step < len(policy.shares):
        share = policy.shares[step]
        routing = Routing((Arm(1, 100 - share), Arm(2, share)), salt="r1", fallback=1)
    elif step >= len(policy.shares):
        routing = Routing.all_to(2, keeping=(1,))
    release = Release(
        id="r1",
        stream="production/m",
        version=2,
        digest="d2",
        champion=1,
        policy=policy,
        actor="anna",
        reason="",
        opened=NOW.isoformat(),
        step=step,
        next_step=step,
        step_since=NOW.isoformat(),
        started=NOW.isoformat(),
    )
    release = replace(release, **changes)  # type: ignore[arg-type]
    return Endpoint(
        "production/m", champion=1, wanted=routing, confirmed=True, releases=(release,), changed=NOW.isoformat()
    )


def held(endpoint: Endpoint) -> Endpoint:
    """*endpoint* in the hands of a person."""
    return replace(endpoint, held="anna")


def watched(endpoint: Endpoint, seconds: float) -> Endpoint:
    """*endpoint* after it has been watched for *seconds* more."""
    return replace(endpoint, awake=endpoint.awake + seconds)


def world(endpoint: Endpoint, ready: dict[int, str] | None = None, dead: dict[int, str] | None = None) -> World:
    return World(endpoint.wanted, BOTH if ready is None else ready, dead or {})


def judged(verdict: Verdict) -> Judged:
    return Judged(verdict, f"it is {verdict}")


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.PASS])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_only_a_pass_raises_the_share(step: int, verdict: Verdict) -> None:
    move = decide(at(step), world(at(step)), judged(verdict), NOW)

    assert not isinstance(move, Shift) or move.routing.share(2) <= at(step).open.share  # type: ignore[union-attr]


@given(
    step=st.integers(-1, 2),
    verdict=st.sampled_from([Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAIL]),
    seconds=st.floats(0, 200_000),
    ready=st.dictionaries(st.sampled_from([1, 2]), st.sampled_from(["", "warming up"])),
    on_doubt=st.sampled_from(list(OnDoubt)),
    by=st.sampled_from(["", "anna"]),
    asked=st.sampled_from(["", "a complaint"]),
)
def test_whatever_happens_nothing_but_a_pass_leads_beyond_the_present_share(
    step: int, verdict: Verdict, seconds: float, ready: dict[int, str], on_doubt: OnDoubt, by: str, asked: str
) -> None:
    endpoint = at(step, replace(POLICY, on_doubt=on_doubt), asked=asked, asked_by="bob")
    endpoint = watched(replace(endpoint, held=by), seconds)
    limit = max(POLICY.shares[0], endpoint.open.share)  # type: ignore[union-attr]

    move = decide(endpoint, world(endpoint, ready), judged(verdict), NOW + timedelta(seconds=seconds))

    assert not isinstance(move, Shift) or move.routing.share(2) <= limit


def test_a_pass_leads_to_the_next_rung() -> None:
    move = decide(at(0), world(at(0)), judged(Verdict.PASS), NOW)

    assert isinstance(move, Shift)
    assert (move.step, move.routing.share(2)) == (1, 25)


def test_the_last_pass_gives_everything_and_keeps_the_champion_known() -> None:
    move = decide(at(2), world(at(2)), judged(Verdict.PASS), NOW)

    assert isinstance(move, Shift)
    assert move.routing == Routing.all_to(2, keeping=(1,))


def test_a_pass_waits_for_the_bake_time() -> None:
    patient = replace(POLICY, bake=60.0)

    later = NOW + timedelta(seconds=61)

    early, baked = (at(0, patient, baked=seconds) for seconds in (59.0, 60.0))

    waits = decide(early, world(early), judged(Verdict.PASS), later)
    assert isinstance(waits, Wait)
    assert waits.why == "baked for 59 of 60 s; it is pass"
    assert isinstance(decide(baked, world(baked), judged(Verdict.PASS), NOW), Shift)


def test_a_fail_goes_back_to_the_champion_at_once() -> None:
    move = decide(at(1), world(at(1)), judged(Verdict.FAIL), NOW)

    assert isinstance(move, Shift)
    assert move.back
    assert move.routing == Routing.all_to(1, keeping=(2,))


def test_a_hold_does_not_keep_a_fail_from_going_back() -> None:
    endpoint = held(at(1))

    move = decide(endpoint, world(endpoint), judged(Verdict.FAIL), NOW)

    assert isinstance(move, Shift)
    assert move.back


def test_a_hold_keeps_a_pass_where_it_is() -> None:
    endpoint = held(at(1))

    assert isinstance(decide(endpoint, world(endpoint), judged(Verdict.PASS), NOW), Wait)


@pytest.mark.parametrize(("fallback", "crashes"), [(False, 0), (True, CRASHES)])
def test_a_challenger_that_nobody_stands_in_for_or_that_keeps_dying_is_taken_off_traffic(
    fallback: bool, crashes: int
) -> None:
    endpoint = at(0, replace(POLICY, fallback=fallback), crashes=crashes)

    move = decide(endpoint, world(endpoint, {1: ""}, {2: "killed"}), judged(Verdict.PASS), NOW)

    assert isinstance(move, Shift)
    assert move.back


def test_a_challenger_that_dies_once_while_the_champion_stands_in_is_started_again() -> None:
    move = decide(at(0), world(at(0), {1: ""}, {2: "killed"}), judged(Verdict.PASS), NOW)

    assert move == Start(2, "version 2 serves here and does not run", again=True)


def test_when_both_died_at_once_the_machine_is_to_blame_and_both_are_started_again() -> None:
    endpoint = at(0, replace(POLICY, fallback=False), crashes=CRASHES)

    moves = [
        decide(endpoint, world(endpoint, ready, dead), judged(Verdict.PASS), NOW)
        for ready, dead in (
            ({}, {1: "gone", 2: "gone"}),
            ({1: "starting"}, {2: "gone"}),
        )
    ]

    assert [(type(move), getattr(move, "version", 0)) for move in moves] == [(Start, 1), (Start, 2)]


def test_a_dead_champion_is_started_again_before_anything_else() -> None:
    move = decide(at(0), world(at(0), {2: ""}, {1: "killed"}), judged(Verdict.PASS), NOW)

    assert move == Start(1, "version 1 serves here and does not run", again=True)


def test_nothing_unproven_gets_a_share() -> None:
    endpoint = at(-1)

    move = decide(endpoint, world(endpoint, {1: "", 2: "warming up"}), judged(Verdict.PASS), NOW)

    assert isinstance(move, Wait)


def test_a_version_that_is_never_ready_fails_without_having_had_a_share() -> None:
    endpoint = watched(at(-1), 121)

    move = decide(endpoint, world(endpoint, {1: "", 2: "warming up"}), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Close)
    assert move.ending is Ending.FAILED


def test_a_process_of_an_earlier_release_that_hangs_has_the_same_time_to_answer() -> None:
    endpoint = watched(at(-1, started=""), 121)

    move = decide(endpoint, world(endpoint, {1: "", 2: "no answer"}), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Close)
    assert move.ending is Ending.FAILED


def test_a_gateway_that_serves_something_else_is_put_right() -> None:
    endpoint = at(1)
    drifted = World(Routing.all_to(1), BOTH, {})

    move = decide(endpoint, drifted, judged(Verdict.PASS), NOW)

    assert isinstance(move, Shift)
    assert move.routing == endpoint.wanted


def test_the_alias_moves_only_after_all_traffic_has() -> None:
    move = decide(at(3), world(at(3)), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Point)


def test_no_answer_in_time_holds_and_asks() -> None:
    move = decide(watched(at(0), 2 * 86400), world(at(0)), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Wait)
    assert move.asks


def test_no_answer_in_time_watches_on_where_the_policy_says_so_until_the_whole_budget_is_used_up() -> None:
    patient = replace(POLICY, on_doubt=OnDoubt.EXTEND, step_budget=100.0, budget=1000.0)

    early, late = (
        decide(watched(at(0, patient), seconds), world(at(0)), judged(Verdict.INCONCLUSIVE), NOW)
        for seconds in (990.0, 1010.0)
    )

    assert early == Wait("watching on after 100 s at 5 %: it is inconclusive")
    assert late == Wait("undecided at 5 % after 100 s: it is inconclusive", asks=True)


def test_while_a_release_is_extended_a_pass_still_leads_on_and_a_fail_back() -> None:
    endpoint = watched(at(0, replace(POLICY, on_doubt=OnDoubt.EXTEND)), 2 * 86400)

    up, back = (decide(endpoint, world(endpoint), judged(v), NOW) for v in (Verdict.PASS, Verdict.FAIL))

    assert isinstance(up, Shift)
    assert isinstance(back, Shift)
    assert (up.step, back.back) == (1, True)


def test_a_release_as_a_whole_has_a_budget_too() -> None:
    endpoint = watched(at(1, replace(POLICY, budget=100.0, on_doubt=OnDoubt.ROLL_BACK), step_awake=50.0), 101)

    move = decide(endpoint, world(endpoint), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Shift)
    assert move.back


def test_a_night_in_which_nobody_watched_uses_up_no_budget() -> None:
    morning = NOW + timedelta(days=3)

    starting = decide(at(-1), world(at(-1), {1: "", 2: "warming up"}), judged(Verdict.INCONCLUSIVE), morning)
    deciding = decide(at(0), world(at(0)), judged(Verdict.INCONCLUSIVE), morning)

    assert isinstance(starting, Wait)
    assert isinstance(deciding, Wait)
    assert not deciding.asks


def test_no_answer_in_time_goes_back_where_the_policy_says_so() -> None:
    careful = replace(POLICY, on_doubt=OnDoubt.ROLL_BACK)

    move = decide(watched(at(0, careful), 2 * 86400), world(at(0)), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Shift)
    assert move.back


def test_a_first_version_gets_everything_at_once() -> None:
    endpoint = replace(at(-1, champion=None), champion=None, wanted=None)

    move = decide(endpoint, World(None, {2: ""}), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Shift)
    assert move.routing == Routing.all_to(2)


def test_what_was_rolled_back_is_let_go_of_when_its_last_requests_are_counted() -> None:
    ended = at(0, ending=Ending.ROLLED_BACK, ended=NOW.isoformat())
    endpoint = replace(ended, wanted=Routing.all_to(1, keeping=(2,)))

    assert isinstance(decide(endpoint, world(endpoint), judged(Verdict.PASS), NOW), Wait)
    shift = decide(endpoint, world(endpoint), judged(Verdict.PASS), NOW + timedelta(seconds=3))
    assert isinstance(shift, Shift)
    assert shift.routing == Routing.all_to(1)
    gone = replace(endpoint, wanted=Routing.all_to(1))
    stop = decide(gone, world(gone), judged(Verdict.PASS), NOW + timedelta(seconds=3))
    assert isinstance(stop, Stop)
    assert stop.version == 2


def test_before_the_first_share_come_warming_up_and_the_way_back() -> None:
    first, second, third = (
        decide(endpoint, world(endpoint), judged(Verdict.INCONCLUSIVE), NOW)
        for endpoint in (
            at(-1, warm_up="golden.json"),
            at(-1, warm_up="golden.json", warmed=True),
            at(-1, warm_up="golden.json", warmed=True, way_back=0.2),
        )
    )

    assert isinstance(first, Warm) and first.why == "50 synthetic requests"
    assert isinstance(second, Rehearse)
    assert (second.there.share(2), second.back) == (0.0, Routing.all_to(1, keeping=(2,)))
    assert second.there != second.back
    assert isinstance(third, Shift)
    assert third.routing.share(2) == 5


def test_a_way_back_that_a_person_asked_for_is_not_rehearsed_first() -> None:
    endpoint = at(-1, Canary(shares=()), takes_out=1)

    assert isinstance(decide(endpoint, world(endpoint), judged(Verdict.INCONCLUSIVE), NOW), Shift)


def test_what_cannot_be_done_before_the_first_share_ends_the_release_after_some_tries() -> None:
    endpoint = replace(at(-1), failures=PATIENCE, failure="the gateway does not load it")

    move = decide(endpoint, world(endpoint), judged(Verdict.INCONCLUSIVE), NOW)

    assert move == Close(Ending.FAILED, f"tried {PATIENCE} times: the gateway does not load it")


def test_a_dead_champion_that_a_person_takes_out_is_not_started_first() -> None:
    endpoint = at(-1, Canary(shares=()), takes_out=1)

    start = decide(endpoint, world(endpoint, {}, {1: "killed"}), judged(Verdict.INCONCLUSIVE), NOW)
    shift = decide(endpoint, world(endpoint, {2: ""}, {1: "killed"}), judged(Verdict.INCONCLUSIVE), NOW)

    assert start == Start(2, "release r1")
    assert isinstance(shift, Shift)
    assert shift.routing.share(2) == 100


def test_a_way_back_that_a_person_asked_for_is_never_given_up() -> None:
    endpoint = replace(at(-1, Canary(shares=()), takes_out=1), failures=PATIENCE, failed_at=NOW.isoformat())

    move = decide(endpoint, world(endpoint), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Wait)
    assert move.asks


def test_a_challenger_that_lives_and_does_not_answer_goes_back_when_its_time_is_up() -> None:
    endpoint = replace(at(0), unready={2: 0.0})
    hung = {1: "", 2: "no answer"}

    early = decide(watched(endpoint, 15.0), world(endpoint, hung), judged(Verdict.INCONCLUSIVE), NOW)
    late = decide(watched(endpoint, 15.1), world(endpoint, hung), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(early, Wait)
    assert isinstance(late, Shift)
    assert late.back


def test_a_champion_that_lives_and_does_not_answer_is_stopped_so_that_it_is_started_anew() -> None:
    endpoint = watched(replace(at(0), unready={1: 0.0}), HUNG + 1)

    move = decide(endpoint, world(endpoint, {1: "no answer", 2: ""}), judged(Verdict.INCONCLUSIVE), NOW)

    assert isinstance(move, Stop)
    assert move.version == 1


@pytest.mark.parametrize(("times", "pause"), [(1, 1.0), (3, 4.0), (20, 60.0)])
def test_what_keeps_dying_is_started_after_longer_and_longer_pauses(times: int, pause: float) -> None:
    endpoint = replace(at(0), restarts={1: (times, NOW.isoformat())})
    dead = world(endpoint, {2: ""}, {1: "killed"})

    early = decide(endpoint, dead, judged(Verdict.INCONCLUSIVE), NOW + timedelta(seconds=pause - 0.1))
    due = decide(endpoint, dead, judged(Verdict.INCONCLUSIVE), NOW + timedelta(seconds=pause))

    assert isinstance(early, Wait)
    assert isinstance(due, Start)


def test_a_gateway_changed_by_hand_is_left_to_the_person_who_holds_it() -> None:
    drifted = World(Routing.all_to(1), BOTH, {})

    assert isinstance(decide(held(at(1)), drifted, judged(Verdict.INCONCLUSIVE), NOW), Wait)
    assert isinstance(decide(at(1), drifted, judged(Verdict.INCONCLUSIVE), NOW), Shift)


def test_a_gateway_that_lost_everything_is_filled_again_although_a_person_holds_it() -> None:
    assert isinstance(decide(held(at(1)), World(None, BOTH, {}), judged(Verdict.INCONCLUSIVE), NOW), Shift)


def test_a_way_back_after_the_alias_has_moved_takes_it_along() -> None:
    endpoint = replace(at(-1, returning="complaints"), champion=2, wanted=Routing.all_to(1, keeping=(2,)))
    pointed = replace(endpoint, champion=1)

    moves = [decide(e, world(e), judged(Verdict.INCONCLUSIVE), NOW) for e in (endpoint, pointed)]

    assert moves == [Point(1, "complaints"), Close(Ending.ROLLED_BACK, "complaints")]


# -- when late labels speak against the champion -----------------------------------------------------------------------


def doubtful(**changes: object) -> Endpoint:
    """An endpoint whose champion, version 2, was promoted over version 1, and late labels say that it is worse."""
    promoted = at(3, ending=Ending.PROMOTED, ended=NOW.isoformat())
    before = replace(promoted.releases[0], id="r0", version=1, champion=None)
    releases = (before, *promoted.releases)
    endpoint = replace(promoted, champion=2, releases=releases, wanted=Routing.all_to(2), reopened="it is worse")
    return replace(endpoint, **changes)  # type: ignore[arg-type]


BACK = Open("r1-back", 1, 2, "late labels reopened the verdict on version 2: it is worse")


@pytest.mark.parametrize("by", ["", "bob"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("tried", [None, Ending.FAILED, Ending.ROLLED_BACK])
@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("dead", [{}, {2: "killed"}])
@pytest.mark.parametrize("reopened", ["", "it is worse"])
def test_late_labels_open_one_way_back_where_nobody_holds_and_nothing_else_opens_any(
    by: str, before: bool, tried: Ending | None, verdict: Verdict, dead: dict[int, str], reopened: str
) -> None:
    endpoint = doubtful(held=by, reopened=reopened)
    if not before:
        endpoint = replace(endpoint, releases=endpoint.releases[1:])
    if tried is not None:
        back = replace(endpoint.releases[-1], id="r1-back", version=1, takes_out=2, champion=2, ending=tried)
        endpoint = replace(endpoint, releases=(*endpoint.releases, back))
    there = World(endpoint.wanted, {} if dead else {2: ""}, dead)

    move = decide(endpoint, there, judged(verdict), NOW)

    if reopened and not by and before and tried is None:
        assert move == BACK
    elif dead:
        assert move == Start(2, "version 2 serves here and does not run", again=True)
    else:
        assert isinstance(move, Wait)
        assert ("late labels" in move.why, move.asks) == (bool(reopened), bool(reopened or by))


def test_while_a_release_is_under_way_late_labels_about_the_champion_move_nothing() -> None:
    under_way = replace(at(0).releases[0], id="r2", version=3, champion=2)
    routing = Routing((Arm(2, 95.0), Arm(3, 5.0)), salt="r2", fallback=2)
    calm = doubtful(wanted=routing, reopened="")
    endpoints = [replace(e, releases=(*e.releases, under_way)) for e in (calm, replace(calm, reopened="it is worse"))]

    for verdict in Verdict:
        first, second = (
            decide(endpoint, World(routing, {2: "", 3: ""}), judged(verdict), NOW) for endpoint in endpoints
        )
        assert first == second


def test_what_is_said_while_a_release_is_under_way_is_when_it_is_looked_at_again() -> None:
    endpoint = doubtful()
    endpoint = replace(endpoint, releases=(*endpoint.releases, replace(endpoint.releases[-1], id="r2", ending=None)))

    said = reopened(endpoint, "it is worse")

    assert said.why.endswith("nothing moves until release r2, which is under way, is closed")


@given(
    seconds=st.floats(0, 200_000),
    ready=st.dictionaries(st.sampled_from([1, 2]), st.sampled_from(["", "warming up"])),
    by=st.sampled_from(["", "bob"]),
    alias=st.sampled_from([1, 2, None]),
    failures=st.integers(0, 9),
)
def test_without_late_labels_nothing_leads_away_from_a_champion_at_rest(
    seconds: float, ready: dict[int, str], by: str, alias: int | None, failures: int
) -> None:
    endpoint = doubtful(reopened="", held=by, failures=failures, failed_at=NOW.isoformat())
    there = World(endpoint.wanted, ready, {}, alias)

    move = decide(endpoint, there, judged(Verdict.FAIL), NOW + timedelta(seconds=seconds))

    assert not isinstance(move, Open)
    assert not isinstance(move, Shift) or move.routing.share(2) == 100
    assert not isinstance(move, Point) or move.version == 2

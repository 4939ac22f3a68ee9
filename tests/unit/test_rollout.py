"""What is decided next, from what is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcd.domain.policy import Canary, Guard, GuardKind, OnDoubt
from modelcd.domain.release import Ending, Endpoint, Release
from modelcd.domain.rollout import Close, Judged, Point, Shift, Start, Stop, Wait, World, decide
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
    return Endpoint("production/m", champion=1, wanted=routing, confirmed=True, releases=(release,))


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
    held=st.sampled_from(["", "anna"]),
    asked=st.sampled_from(["", "a complaint"]),
)
def test_whatever_happens_nothing_but_a_pass_leads_beyond_the_present_share(
    step: int, verdict: Verdict, seconds: float, ready: dict[int, str], on_doubt: OnDoubt, held: str, asked: str
) -> None:
    endpoint = at(step, replace(POLICY, on_doubt=on_doubt), held=held, asked=asked, asked_by="bob")
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
    held = at(1, held="anna")

    move = decide(held, world(held), judged(Verdict.FAIL), NOW)

    assert isinstance(move, Shift)
    assert move.back


def test_a_hold_keeps_a_pass_where_it_is() -> None:
    held = at(1, held="anna")

    assert isinstance(decide(held, world(held), judged(Verdict.PASS), NOW), Wait)


def test_a_challenger_whose_process_died_is_taken_off_traffic() -> None:
    move = decide(at(0), world(at(0), {1: ""}, {2: "killed"}), judged(Verdict.PASS), NOW)

    assert isinstance(move, Shift)
    assert move.back


def test_a_dead_champion_is_started_again_before_anything_else() -> None:
    move = decide(at(0), world(at(0), {2: ""}, {1: "killed"}), judged(Verdict.PASS), NOW)

    assert move == Start(1, "version 1 serves here and does not run")


def test_nothing_unproven_gets_a_share() -> None:
    endpoint = at(-1)

    move = decide(endpoint, world(endpoint, {1: "", 2: "warming up"}), judged(Verdict.PASS), NOW)

    assert isinstance(move, Wait)


def test_a_version_that_is_never_ready_fails_without_having_had_a_share() -> None:
    endpoint = at(-1)
    late = NOW + timedelta(seconds=121)

    move = decide(endpoint, world(endpoint, {1: "", 2: "warming up"}), judged(Verdict.INCONCLUSIVE), late)

    assert isinstance(move, Close)
    assert move.ending is Ending.FAILED


def test_a_process_of_an_earlier_release_that_hangs_has_the_same_time_to_answer() -> None:
    endpoint = at(-1, started="")
    late = NOW + timedelta(seconds=121)

    move = decide(endpoint, world(endpoint, {1: "", 2: "no answer"}), judged(Verdict.INCONCLUSIVE), late)

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
    late = NOW + timedelta(days=2)

    move = decide(at(0), world(at(0)), judged(Verdict.INCONCLUSIVE), late)

    assert isinstance(move, Wait)
    assert move.asks


def test_no_answer_in_time_goes_back_where_the_policy_says_so() -> None:
    careful = replace(POLICY, on_doubt=OnDoubt.ROLL_BACK)

    move = decide(at(0, careful), world(at(0)), judged(Verdict.INCONCLUSIVE), NOW + timedelta(days=2))

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

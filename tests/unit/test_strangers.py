"""Requests and labels of a version that is neither champion nor challenger."""

from __future__ import annotations

import pytest

from modelcd.domain.judge import Judgement
from modelcd.domain.samples import Counters
from modelcd.domain.strangers import QUIET, doubted, met, strange_finding, strange_labels, strange_requests
from modelcd.domain.verdict import Finding, Verdict


def counted(requests: int) -> Counters:
    return Counters(requests=requests)


def test_requests_of_a_version_seen_before_are_a_stranger_s_unless_it_is_one_of_the_two() -> None:
    since = {1: counted(90), 2: counted(10), 7: counted(3), 8: counted(500)}

    assert strange_requests(since, known=(1, 2, 7), own=(1, 2)) == {7: 3}


def test_labels_count_by_the_routing_that_served_them() -> None:
    served = [("r1", 1), ("r1", 2), ("r1", 7), ("r2", 7), ("before", 7), ("r2", 8)]

    assert strange_labels(served, {"r1": 0, "r2": 1}, own=(1, 2)) == {7: 2, 8: 1}


def test_strangers_add_up_and_are_forgotten_when_nothing_came_for_a_while() -> None:
    first = met({}, {7: 3}, {}, quiet=1e9)
    second = met(first, {7: 2}, {8: 1}, quiet=5.0)

    assert (first, second) == ({7: (3, 0)}, {7: (5, 0), 8: (0, 1)})
    assert met(second, {}, {}, QUIET - 1) == second
    assert met(second, {7: 0}, {}, QUIET) == {}


def test_the_finding_is_an_error_that_names_versions_and_numbers() -> None:
    finding = strange_finding({7: (1200, 3), 8: (0, 1)}, champion=1, challenger=2)

    assert finding is not None
    assert (finding.name, finding.verdict) == ("version", Verdict.ERROR)
    assert finding.reason.startswith("version 7 got 1,200 requests and 3 labels; version 8 got 1 label while only")
    assert finding.evidence["versions"] == {"7": {"requests": 1200, "labels": 3}, "8": {"requests": 0, "labels": 1}}
    assert finding.evidence["check"] is True
    assert strange_finding({}, 1, 2) is None


@pytest.mark.parametrize(
    ("verdict", "then", "reason"),
    [
        (Verdict.PASS, Verdict.ERROR, "a stranger"),
        (Verdict.INCONCLUSIVE, Verdict.ERROR, "a stranger"),
        (Verdict.ERROR, Verdict.ERROR, "so far; a stranger"),
        (Verdict.FAIL, Verdict.FAIL, "so far"),
    ],
)
def test_it_holds_what_would_go_on_and_keeps_nothing_from_going_back(
    verdict: Verdict, then: Verdict, reason: str
) -> None:
    said = Judgement(verdict, "so far", (), 1.0, 100.0)
    finding = Finding("version", Verdict.ERROR, "a stranger")

    after = doubted(said, finding)

    assert (after.verdict, after.reason, after.findings) == (then, reason, (finding,))
    assert doubted(said, None) is said

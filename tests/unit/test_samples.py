"""Counters that go on, and counters that began anew."""

from __future__ import annotations

from dataclasses import replace

from modelcd.domain.samples import BUCKETS, Counters, add, counters_from, counters_plain


def counted(requests: int, failures: int = 0, epoch: str = "") -> Counters:
    return Counters(requests, failures, (requests, *(0,) * (BUCKETS - 1)), epoch=epoch)


def test_what_came_since_is_the_difference() -> None:
    assert counted(30, 3, "a").since(counted(10, 1, "a")) == counted(20, 2, "a")


def test_counters_of_another_epoch_count_from_zero_however_far_they_have_come() -> None:
    assert counted(30, 3, "b").since(counted(10, 1, "a")) == counted(30, 3, "b")


def test_counters_that_went_down_began_anew_also_without_an_epoch() -> None:
    assert counted(5, 0).since(counted(10, 1)) == counted(5, 0)


def test_an_epoch_that_is_not_known_decides_nothing() -> None:
    assert counted(30, 3, "b").since(counted(10, 1)).requests == 20


def test_the_sum_of_two_stretches_has_the_later_epoch() -> None:
    assert add(counted(1, 0, "a"), counted(2, 0, "b")) == counted(3, 0, "b")


def test_counters_are_the_same_after_json() -> None:
    found = replace(counted(7, 2, "a"), rescued=1)

    assert counters_from(counters_plain(found)) == found


def test_counters_of_an_older_journal_have_no_epoch() -> None:
    assert counters_from({"requests": 1, "failures": 0, "rescued": 0, "latency": {}}).epoch == ""

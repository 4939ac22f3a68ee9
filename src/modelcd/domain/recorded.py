"""What past releases tell of the traffic that the next one will meet: a fold of their looks.

How much comes, how many requests get a label and how late is taken from the newest releases; how good the champion is,
from every look that it was part of, as a challenger or as a champion.  Time is watched time (`Endpoint.awake`), so a
night in which the machine slept does not make the traffic look small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelcd.domain.forecast import Traffic
from modelcd.domain.policy import FROM_LABELS, Canary, GuardKind
from modelcd.domain.records import Record
from modelcd.domain.release import Endpoint, Release, fold
from modelcd.domain.samples import Block, Counters, Labels, Sums, add, block_from

NEWEST = 3
"""How many releases say what comes in: one alone may have been short, and older ones met other traffic."""


@dataclass(frozen=True)
class Glance:
    """What was counted between two looks: requests and labels of both arms, between two readings of watched time."""

    since: float
    until: float
    requests: int
    labels: int

    @property
    def middle(self) -> float:
        """When it came, on average."""
        return (self.since + self.until) / 2


@dataclass(frozen=True)
class Recorded:
    """What was recorded of an endpoint: the glances of its newest releases by id, and what its *champion* did.

    `judged` holds the labels of the champion by guard, `numbers` its metrics; `labelled` names the releases in which
    labels were asked for.
    """

    endpoint: Endpoint
    glances: Mapping[str, tuple[Glance, ...]] = field(default_factory=dict)
    labelled: frozenset[str] = frozenset()
    champion: Counters = field(default_factory=Counters)
    judged: Mapping[str, Labels] = field(default_factory=dict)
    numbers: Mapping[str, Sums] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many requests the newest releases saw."""
        return sum(glance.requests for glances in self.glances.values() for glance in glances)

    @property
    def seconds(self) -> float:
        """How long they were watched."""
        return sum(glance.until - glance.since for glances in self.glances.values() for glance in glances)

    @property
    def traffic(self) -> Traffic:
        """What is known of it; what was never seen is None, and left out of `wrong`."""
        part, delay = self._labels()
        return Traffic(
            per_minute=60 * self.requests / self.seconds if self.requests and self.seconds > 0 else None,
            errors=self.champion.failures / self.champion.requests if self.champion.requests else None,
            wrong={name: labels.bad / labels.n for name, labels in self.judged.items() if labels.n},
            numbers={name: _moments(sums) for name, sums in self.numbers.items() if sums.n > 1},
            labelled=part,
            label_delay=delay,
            latencies=self.champion.latency if any(self.champion.latency) else (),
        )

    def _labels(self) -> tuple[float | None, float | None]:
        """Return which part of the requests gets a label, and how many seconds later.

        The newest requests of a release have no labels yet when it ends; those are not counted as without one.
        """
        asked = [glances for name, glances in self.glances.items() if name in self.labelled]
        most = max(asked, key=lambda glances: sum(glance.labels for glance in glances), default=())
        if not any(glance.labels for glance in most):
            return None, None
        delay = _delay(most)
        due = sum(_served(glances, glances[-1].until - delay)[0] for glances in asked)
        labels = sum(glance.labels for glances in asked for glance in glances)
        return min(1.0, labels / max(due, 1.0)), delay


def recorded(stream: str, records: Iterable[Record]) -> Recorded:
    """Return what *records*, those of the endpoint *stream* from its first, tell of its traffic and its champion."""
    endpoint = Endpoint(stream)
    glances: dict[str, list[Glance]] = {}
    labelled: set[str] = set()
    counted: dict[int, Counters] = {}
    judged: dict[int, dict[str, Labels]] = {}
    numbers: dict[int, dict[str, Sums]] = {}
    since = 0.0
    for record in records:
        release = endpoint.open
        endpoint = fold(endpoint, [record])
        body = record.entry.body
        if record.entry.kind == "done" and body["effect"] == "shift":
            since = endpoint.awake
        if record.entry.kind != "observed" or release is None or body["block"] is None:
            continue
        block = block_from(body["block"])
        told = _labels(block, release.policy)
        requests, labels = block.baseline.requests + block.challenger.requests, _both(block, told)
        glances.setdefault(release.id, []).append(Glance(since, endpoint.awake, requests, labels))
        since = endpoint.awake
        labelled |= {release.id} if any(guard.kind in FROM_LABELS for guard in release.policy.guards) else set()
        for arm, version, counters in _arms(release, block):
            counted[version] = add(counted.get(version, Counters()), counters)
            known = judged.setdefault(version, {})
            for name, pair in told.items():
                known[name] = known.get(name, Labels()).plus(pair[arm])
            sums = numbers.setdefault(version, {})
            for name, new in _numbers(block, arm).items():
                sums[name] = sums.get(name, Sums()).plus(new)
    newest = [name for name, seen in glances.items() if any(glance.requests for glance in seen)][-NEWEST:]
    found = Recorded(endpoint, {name: tuple(glances[name]) for name in newest}, frozenset(labelled))
    if endpoint.champion is None:
        return found
    version = endpoint.champion
    return replace(
        found,
        champion=counted.get(version, Counters()),
        judged=judged.get(version, {}),
        numbers=numbers.get(version, {}),
    )


def _arms(release: Release, block: Block) -> list[tuple[int, int, Counters]]:
    challenger = [(1, release.version, block.challenger)]
    return challenger if release.champion is None else [(0, release.champion, block.baseline), *challenger]


def _labels(block: Block, policy: Canary) -> dict[str, tuple[Labels, Labels]]:
    """Return the labels of both arms by guard, whatever routing their requests were served under."""
    told = {}
    for name, served in block.labels.items():
        guard = name or next(guard.name for guard in policy.guards if guard.kind is GuardKind.SUCCESS)
        baseline, challenger = (
            Labels(sum(pair[k].n for pair in served.values()), sum(pair[k].bad for pair in served.values()))
            for k in (0, 1)
        )
        told[guard] = baseline, challenger
    return told


def _numbers(block: Block, arm: int) -> dict[str, Sums]:
    """Return the numbers of one arm by guard."""
    told: dict[str, Sums] = {}
    for name, served in block.sums.items():
        for pair in served.values():
            told[name] = told.get(name, Sums()).plus(pair[arm])
    return told


def _moments(sums: Sums) -> tuple[float, float]:
    """Return mean and variance."""
    mean = sums.total / sums.n
    return mean, max(0.0, sums.squares / sums.n - mean * mean)


def _both(block: Block, told: Mapping[str, tuple[Labels, Labels]]) -> int:
    # Several guards may judge one and the same label.
    counted = [baseline.n + challenger.n for baseline, challenger in told.values()]
    numbers = [sum(old.n + new.n for old, new in served.values()) for served in block.sums.values()]
    return max([*counted, *numbers], default=0)


def _served(glances: Sequence[Glance], until: float) -> tuple[float, float]:
    """Return how many requests were served until a moment, and when they were on average."""
    count, moments = 0.0, 0.0
    for glance in glances:
        lasted = glance.until - glance.since
        part = min(1.0, max(0.0, (until - glance.since) / lasted)) if lasted > 0 else float(glance.until <= until)
        count += part * glance.requests
        moments += part * glance.requests * (glance.since + part * lasted / 2)
    return count, moments / count if count else glances[0].since


def _delay(glances: Sequence[Glance]) -> float:
    """Return how many seconds after its request a label came.

    By the end of the release only those of requests served a delay earlier have come: the delay is the number for
    which the mean moment of the labels is the mean moment of *those* requests, and the delay later.
    """
    labels = sum(glance.labels for glance in glances)
    came = sum(glance.labels * glance.middle for glance in glances) / labels
    end = glances[-1].until
    low, high = 0.0, end - glances[0].since
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _served(glances, end - middle)[1] + middle < came else (low, middle)
    return low

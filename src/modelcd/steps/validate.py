"""Offline gates: the holdout, scored through the very server that will serve, against the champion's scores."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelcd.artifact import Column, Output, read_manifest
from modelcd.domain.telling import counted
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.errors import CannotTell, NotReady
from modelcd.ports import Instance, Unit

BATCH = 500
"""Rows in one request when the holdout is scored."""

BATCH_BYTES = 4 << 20
"""Bytes of such a request at most, about: a server takes four times as many by itself."""

MOST_ROWS = 20_000
"""Rows of the holdout that are scored at most; of a larger one, so many spread evenly."""

MOST_VALUES = 5_000_000
"""Values of the rows that are scored at most, where rows are wide: an embedding has hundreds."""

PACE = 100
"""One-row requests by which the latency is measured."""


@contextmanager
def running(env: Environment, unit: Unit) -> Iterator[Instance]:
    """Start *unit* in a scratch place, away from all traffic, and stop it at the end; it is not ready yet."""
    instance = env.runtime.start(unit)
    try:
        yield instance
    finally:
        env.runtime.stop(instance.id)


def await_ready(env: Environment, instance: Instance, budget: float) -> None:
    """Wait until *instance* answers its readiness probe.

    Raises `NotReady`, with what it printed, when it ended or does not answer within *budget* seconds.
    """
    began = env.clock.now()
    while True:
        try:
            env.scoring.ready(instance.address)
            return
        except NotReady as error:
            alive = any(i.alive for i in env.runtime.instances(instance.place) if i.id == instance.id)
            late = (env.clock.now() - began).total_seconds() > budget
            if late or not alive:
                what = f"was not ready within {budget:g} s" if alive else "ended while starting"
                raise NotReady(
                    f"version {instance.version} of {instance.model} {what}: {error.message}",
                    help=env.runtime.log(instance.id, 15),
                ) from error
            env.clock.sleep(0.02)


def rows_at_most(artifacts: Sequence[Path]) -> int:
    """Return how many rows of the holdout are scored, the same for all of *artifacts*."""
    widths = [sum(column.length or 1 for column in read_manifest(one).inputs) for one in artifacts]
    return max(1, min(MOST_ROWS, MOST_VALUES // max(*widths, 1)))


def batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Cut *rows* into requests of at most `BATCH` rows, and of about `BATCH_BYTES` where rows are wide."""
    widest = max((len(json.dumps(row)) for row in rows[:10]), default=1)
    size = max(1, min(BATCH, BATCH_BYTES // widest))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def score(env: Environment, instance: Instance, rows: Sequence[Mapping[str, Any]], budget: float) -> list[Any]:
    """Return one score per row, asked for in batches, once *instance* is ready.

    Raises `NotReady` when it is not within *budget* seconds.
    """
    await_ready(env, instance, budget)
    scores: list[Any] = []
    for batch in batches(rows):
        answer = env.scoring.predict(instance.address, batch)
        if len(answer.scores) != len(batch):
            raise CannotTell(f"{counted(len(batch), 'row')} sent, {counted(len(answer.scores), 'score')} came back")
        scores.extend(answer.scores)
    return scores


def pace(env: Environment, instance: Instance, rows: Sequence[Mapping[str, Any]], limit: float) -> Finding:
    """Measure one-row latency through the real server against *limit* seconds at the 99th percentile."""
    times = []
    for row in rows[:PACE]:
        began = time.perf_counter()
        env.scoring.predict(instance.address, [row])
        times.append(time.perf_counter() - began)
    if not times:
        return Finding("latency", Verdict.ERROR, "there are no rows to measure with")
    times.sort()
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, math.ceil(0.99 * len(times)) - 1)]
    verdict = Verdict.PASS if p99 <= limit else Verdict.FAIL
    reason = f"one row in {p50 * 1e3:.1f} ms at the median, {p99 * 1e3:.1f} ms at p99 (limit {limit * 1e3:,.0f} ms)"
    return Finding("latency", verdict, reason, {"p50": p50, "p99": p99, "limit": limit, "requests": len(times)})


def signature(challenger: Path, champion: Path | None) -> Finding:
    """Check that whoever can ask the champion can ask the challenger, and can read what it answers.

    No new required column, no changed kind, scores of the same kind, and lists of the same numbers in the same order.
    """
    ours = read_manifest(challenger)
    new = {column.name: column for column in ours.inputs}
    if champion is None:
        return Finding("signature", Verdict.PASS, f"{counted(len(new), 'column')}; no champion to compare with")
    theirs = read_manifest(champion)
    old = {column.name: column for column in theirs.inputs}
    added = sorted(set(new) - set(old))
    changed = sorted(name for name in set(new) & set(old) if _kind(new[name]) != _kind(old[name]))
    evidence: dict[str, Any] = {"added": added, "changed": changed, "dropped": sorted(set(old) - set(new))}
    if added or changed:
        names = ", ".join([*added, *changed])
        return Finding("signature", Verdict.FAIL, f"requests that suit the champion would fail: {names}", evidence)
    if _kind(ours.output) != _kind(theirs.output) or ours.output.names != theirs.output.names:
        evidence["scores"] = [_told(theirs.output), _told(ours.output)]
        reason = f"scores would change from {_told(theirs.output)} to {_told(ours.output)}: give it another name"
        return Finding("signature", Verdict.FAIL, reason, evidence)
    return Finding(
        "signature",
        Verdict.PASS,
        f"takes every request that the champion takes ({counted(len(new), 'column')})",
        evidence,
    )


def _kind(one: Column | Output) -> tuple[str, int]:
    """Return what tells one input or output from another; whole numbers out are numbers like others."""
    return "double" if isinstance(one, Output) and one.kind == "long" else one.kind, one.length


def _told(output: Output) -> str:
    if output.kind != "vector":
        return f"a {'number' if output.kind in ('double', 'long') else output.kind}"
    return f"a list of {output.length} numbers" + (f" ({', '.join(map(str, output.names))})" if output.names else "")

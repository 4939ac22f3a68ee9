"""Acceptance: the version, where it can be behind the real gateway, asked the way users will ask it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelcd.domain.policy import Acceptance
from modelcd.domain.scores import same
from modelcd.domain.telling import counted
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environment import Environment
from modelcd.errors import CannotTell
from modelcd.steps.validate import batches


def golden(env: Environment, url: str, rows: Sequence[Mapping[str, Any]], scores: Sequence[Any]) -> Finding:
    """Ask for rows whose scores were recorded at the gates: the very same scores must come back."""
    if not rows:
        return Finding("golden requests", Verdict.ERROR, "no golden requests were recorded")
    answer = [score for batch in batches(rows) for score in env.scoring.predict(url, batch).scores]
    wrong = [k for k, (a, b) in enumerate(zip(answer, scores, strict=False)) if not same(a, b)]
    if wrong or len(answer) != len(scores):
        first = f"row {wrong[0]}: {answer[wrong[0]]} instead of {scores[wrong[0]]}" if wrong else "some are missing"
        reason = f"{len(wrong)} of {counted(len(rows), 'golden request')} differ; {first}"
        return Finding("golden requests", Verdict.FAIL, reason, {"differing": len(wrong), "rows": len(rows)})
    return Finding(
        "golden requests", Verdict.PASS, f"{counted(len(rows), 'golden request')} equal", {"rows": len(rows)}
    )


def load(env: Environment, url: str, rows: Sequence[Mapping[str, Any]], policy: Acceptance) -> Finding:
    """Send a short load of one-row requests: none may fail, and p99 stays below the policy's limit (seconds)."""
    plan = [rows[k % len(rows)] for k in range(policy.load_requests)] if rows else []
    if not plan:
        return Finding("load", Verdict.ERROR, "there are no rows to send")

    def one(row: Mapping[str, Any]) -> float:
        began = time.perf_counter()
        try:
            env.scoring.predict(url, [row])
        except CannotTell:
            return math.inf
        return time.perf_counter() - began

    with ThreadPoolExecutor(policy.load_connections) as pool:
        times = sorted(pool.map(one, plan))
    failed = sum(math.isinf(t) for t in times)
    p99 = times[math.ceil(0.99 * len(times)) - 1]
    evidence = {"requests": len(times), "failed": failed, "p99": None if math.isinf(p99) else p99}
    if failed:
        return Finding(
            "load", Verdict.FAIL, f"{failed} of {counted(len(times), 'request')} failed under load", evidence
        )
    verdict = Verdict.PASS if p99 <= policy.p99 else Verdict.FAIL
    reason = f"{counted(len(times), 'request')}, none failed, p99 {p99 * 1e3:.1f} ms (limit {policy.p99 * 1e3:,.0f} ms)"
    return Finding("load", verdict, reason, evidence)

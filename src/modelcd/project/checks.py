"""The project's offline checks: expectations on the raw rows, gates on the holdout.

Both hand back findings as JSON values, worst news included: a check that crashed is an error, no checks at all are
said to be none, and neither is ever a pass.  Great Expectations takes seconds to import, so only a project that has
expectations pays for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelcd.domain.gates import METRICS, Holdout, check
from modelcd.domain.plain import to_plain
from modelcd.domain.verdict import Finding, Verdict, worst
from modelcd.errors import ChildError, ProjectError
from modelcd.project.declare import Model
from modelcd.project.loading import calling

SAMPLES = 5


# -- gates -------------------------------------------------------------------------------------------------------------


def gate_findings(
    project: Path, model: Model, rows: pd.DataFrame, challenger: Path, champion: Path | None
) -> dict[str, Any]:
    """Check every gate on the holdout *rows* with scores from the files *challenger* and *champion*."""
    needed = sorted({gate.column for gate in model.gates if gate.column and gate.column in rows})
    holdout = Holdout(
        truth=rows[model.data.target].to_numpy(),
        challenger=_scores(challenger, len(rows)),
        champion=None if champion is None else _scores(champion, len(rows)),
        columns={name: rows[name].tolist() for name in needed},
    )
    findings = []
    for gate in model.gates:
        with calling(f"gate {gate.metric!r}", project):
            findings.append(check(gate, holdout))
    return {**_summary(findings), "metrics": _metric_values(model, holdout)}


def _scores(path: Path, rows: int) -> np.ndarray[Any, Any]:
    try:
        scores = np.load(path) if path.suffix == ".npy" else np.asarray(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ChildError(f"the scores in {path.name} cannot be read: {error}") from error
    if scores.shape[:1] != (rows,):
        raise ChildError(f"{path.name} has {len(scores):,} scores for {rows:,} rows")
    return scores


def _metric_values(model: Model, holdout: Holdout) -> dict[str, float]:
    """Return each gate's metric on the whole holdout; what cannot be computed is left out (its finding says why)."""
    values: dict[str, float] = {}
    for gate in model.gates:
        try:
            function = gate.function or METRICS[gate.metric][0]
            value = float(function(holdout.truth, holdout.challenger))
        except Exception:  # noqa: S112 - the gate itself has reported it, as an error
            continue
        if math.isfinite(value):
            values[gate.metric] = value
    return values


def _summary(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "verdict": worst(finding.verdict for finding in findings).value,
        "findings": [to_plain(finding) for finding in findings],
    }


# -- expectations ------------------------------------------------------------------------------------------------------


def expectation_findings(project: Path, model: Model, raw: pd.DataFrame) -> dict[str, Any]:
    """Check the project's expectations on the *raw* rows, before `prepare`.

    Returns `declared`, `verdict`, and one finding per expectation.  One of lower severity than critical does not
    fail; it is named in its finding's reason.
    """
    if model.data.expectations is None:
        return {"declared": 0, "verdict": Verdict.INCONCLUSIVE.value, "findings": [], "reason": "no expectations"}
    import great_expectations as gx
    import great_expectations.expectations as gxe

    with calling("expectations", project):
        expectations = list(model.data.expectations(gxe))
    odd = next((e for e in expectations if not isinstance(e, gxe.Expectation)), None)
    if odd is not None:
        raise ProjectError(
            f"expectations returned a {type(odd).__name__}", help="return [expect.ExpectColumnValuesToNotBeNull(…), …]"
        )
    if not expectations:
        return {"declared": 0, "verdict": Verdict.INCONCLUSIVE.value, "findings": [], "reason": "no expectations"}
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    batch = (
        context.data_sources.add_pandas("project")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = context.suites.add(gx.ExpectationSuite(name="project", expectations=expectations))
    validation = context.validation_definitions.add(gx.ValidationDefinition(name="project", data=batch, suite=suite))
    with calling("the expectations", project):
        result = validation.run(batch_parameters={"dataframe": raw}, result_format="BASIC")
    findings = [_finding(one) for one in result.to_json_dict()["results"]]
    if len(findings) != len(expectations):
        raise ChildError(
            f"{len(expectations)} expectations gave {len(findings)} results", help="are two of them the same?"
        )
    failed = [f for f in findings if f.verdict is not Verdict.PASS]
    reason = f"{len(findings) - len(failed)} of {len(findings)} expectations"
    return {"declared": len(findings), "reason": reason, **_summary(findings)}


def _finding(result: Mapping[str, Any]) -> Finding:
    config, seen = result["expectation_config"], result.get("result") or {}
    kwargs = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    severity = str(config.get("severity") or "critical")
    evidence = {
        "column": kwargs.get("column", ""),
        "expected": {k: v for k, v in kwargs.items() if k != "column"},
        "severity": severity,
        "rows": seen.get("element_count"),
        "unexpected": seen.get("unexpected_count"),
        "missing": seen.get("missing_count"),
        "observed": seen.get("observed_value"),
        "samples": list(seen.get("partial_unexpected_list") or [])[:SAMPLES],
    }
    column = f"({kwargs['column']})" if "column" in kwargs else ""
    name = f"{config['type']}{column}"
    crash = _crash(result.get("exception_info") or {})
    if crash:
        return Finding(name, Verdict.ERROR, f"could not be checked: {crash}", evidence)
    if result["success"]:
        return Finding(name, Verdict.PASS, "holds", evidence)
    if severity != "critical":
        return Finding(name, Verdict.PASS, f"does not hold ({severity} only): {_what_was_seen(evidence)}", evidence)
    return Finding(name, Verdict.FAIL, _what_was_seen(evidence), evidence)


def _what_was_seen(evidence: Mapping[str, Any]) -> str:
    column = evidence["column"] or "the rows"
    if evidence["unexpected"] is not None:
        samples = ", ".join(map(repr, evidence["samples"]))
        return f"{column}: {evidence['unexpected']:,} of {evidence['rows']:,} unexpected" + (
            f", such as {samples}" if samples else ""
        )
    return f"{column}: observed {evidence['observed']!r}, expected {evidence['expected']}"


def _crash(info: Mapping[str, Any]) -> str:
    parts = [info] if "raised_exception" in info else list(info.values())
    messages = [str(p.get("exception_message")) for p in parts if isinstance(p, Mapping) and p.get("raised_exception")]
    return messages[0].splitlines()[0] if messages else ""

"""The project's offline checks: expectations on the raw rows, gates on the holdout, the functions of its guards.

Both hand back findings as JSON values, worst news included: a check that crashed is an error, no checks at all are
said to be none, and neither is ever a pass.  Great Expectations takes seconds to import, so only a project that has
expectations pays for it.
"""

from __future__ import annotations

import gc
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelcd.domain.gates import Holdout, check, value_of
from modelcd.domain.metrics import MOST_CLASSES, Array
from modelcd.domain.permutation import Unusable, check_guard
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import FROM_LABELS, Guard
from modelcd.domain.telling import counted
from modelcd.domain.verdict import HOLDS, Finding, Verdict, worst
from modelcd.errors import ChildError, ModelcdError, ProjectError
from modelcd.project.declare import Model
from modelcd.project.judging import outcome
from modelcd.project.loading import calling
from modelcd.project.rows import truths_of

Plain = dict[str, Any]

SAMPLES = 5


# -- gates -------------------------------------------------------------------------------------------------------------


def gate_findings(project: Path, model: Model, rows: pd.DataFrame, scores: Mapping[str, Any]) -> Plain:
    """Check every gate on the holdout *rows* with the *scores* of `challenger` and, if there is one, `champion`.

    The functions of guards are tried there with the scores of the challenger: live, nothing else will judge it.

    `itself` in *scores* says that the two are one version, `names` what the numbers of each one's lists are.  Returns
    `verdict`, `findings`, and of the gates `metrics` and `champion_metrics`.  A model without gates has one finding, no
    pass.
    """
    needed = sorted({gate.column for gate in model.gates if gate.column and gate.column in rows})
    several = len(model.data.targets) > 1
    names = scores.get("names") or {}
    holdout = Holdout(
        truth=(rows[list(model.data.targets)] if several else rows[model.data.targets[0]]).to_numpy(),
        challenger=_array("challenger", scores.get("challenger"), len(rows)),
        champion=_array("champion", scores["champion"], len(rows)) if scores.get("champion") is not None else None,
        columns={name: rows[name].tolist() for name in needed},
        itself=scores.get("itself") is True,
        classes=tuple(names.get("challenger", ())),
        champion_classes=tuple(names.get("champion", ())),
    )
    findings = []
    for gate in model.gates:
        with calling(f"gate {gate.metric!r}", project):
            findings.append(check(gate, holdout))
    if not findings:
        findings.append(Finding("gates", Verdict.INCONCLUSIVE, "no gate is declared, so nothing says that it is good"))
    findings += guard_findings(project, model, scores["challenger"], truths_of(rows, model.data.targets))
    theirs = holdout.champion
    rival = None if theirs is None else replace(holdout, challenger=theirs, classes=holdout.champion_classes)
    return {
        "verdict": worst(finding.verdict for finding in findings).value,
        "findings": [to_plain(finding) for finding in findings],
        "metrics": _metric_values(model, holdout),
        "champion_metrics": {} if rival is None else _metric_values(model, rival),
    }


def _array(name: str, scores: Sequence[Any] | None, rows: int) -> Array:
    if scores is None or len(scores) != rows:
        raise ChildError(f"the {name} has {counted(len(scores or ()), 'score')} for {counted(rows, 'row')}")
    return np.asarray(scores)


def _metric_values(model: Model, holdout: Holdout) -> dict[str, float]:
    """Return each gate's metric on the whole holdout; what cannot be computed is left out (its finding says why)."""
    values: dict[str, float] = {}
    for gate in model.gates:
        try:
            value = value_of(gate, holdout)
        except Exception:
            continue  # the gate's own finding says what was wrong
        if math.isfinite(value):
            values[gate.metric] = value
    return values


# -- guards ------------------------------------------------------------------------------------------------------------


def guard_findings(
    project: Path, model: Model, scores: Sequence[Any], truths: Sequence[Any], *, trained: bool = True
) -> list[Finding]:
    """Try the function of each guard that labels feed on *scores* and *truths*, JSON values of the same rows."""
    guards = [guard for guard in model.guards if guard.kind in FROM_LABELS and guard.on_holdout]
    return [check_guard(guard, scores, truths, _asking(project, guard), trained=trained) for guard in guards]


def stand_in_scores(method: str, truths: Sequence[Any]) -> list[Any]:
    """Return a score for each of *truths* of the kind that *method* gives: chances, or classes and numbers."""
    values = list({repr(truth): truth for truth in truths}.values())
    random = np.random.default_rng(len(truths))
    if method == "predict_proba" and len(values) == 2:
        return [float(chance) for chance in random.random(len(truths))]
    if method == "predict_proba" and len(values) <= MOST_CLASSES:
        return [[float(chance) for chance in row] for row in random.dirichlet([1.0] * len(values), len(truths))]
    return [truths[place] for place in random.permutation(len(truths))]


def _asking(project: Path, guard: Guard) -> Callable[[Any, Any], float]:
    def ask(score: Any, label: Any) -> float:
        assert guard.function is not None, "a guard of labels has a function"
        try:
            return float(outcome(guard, guard.function(score, label)))
        except MemoryError:
            raise
        except BaseException as error:
            raise Unusable(
                _said(error, f"for the score {reprlib.repr(score)} and the truth {reprlib.repr(label)}")
            ) from error

    def _said(error: BaseException, pair: str) -> str:
        what = f"guard {guard.name!r}"
        try:
            with calling(what, project):
                raise error
        except ModelcdError as told:
            return f"{told.message.removeprefix(what).strip()} {pair}" + (f"; {told.help}" if told.help else "")

    return ask


# -- expectations ------------------------------------------------------------------------------------------------------


def expectation_findings(project: Path, model: Model, read: Callable[[], pd.DataFrame]) -> Plain:
    """Check the project's expectations on the raw rows that *read* gives, before `prepare`.

    Returns `verdict`, `reason`, and as `evidence` how many were `declared` and a finding for each.  Declaring none is
    no failure; one of lower severity than critical does not fail, it is named in the reason.
    """
    if model.data.expectations is None:
        return _told(Verdict.PASS, "none are declared", [])
    gc.disable()  # importing it takes a second and a half as it is, a fifth more with looks for garbage
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.expectations.expectation import Expectation

    gc.enable()
    with calling("expectations", project):
        expectations = list(model.data.expectations(gxe))
    odd = next((e for e in expectations if not isinstance(e, Expectation)), None)
    if odd is not None:
        raise ProjectError(
            f"expectations returned a {type(odd).__name__}", help="return [expect.ExpectColumnValuesToNotBeNull(…), …]"
        )
    if not expectations:
        return _told(
            Verdict.INCONCLUSIVE,
            "expectations returned none, so nothing was checked; leave expectations away where none are wanted",
            [],
        )
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("project").add_dataframe_asset("rows")
    suite = context.suites.add(gx.ExpectationSuite(name="project", expectations=expectations))
    validation = context.validation_definitions.add(
        gx.ValidationDefinition(name="project", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    with calling("the expectations", project):
        result = validation.run(batch_parameters={"dataframe": read()}, result_format="BASIC")
    findings = [_finding(one.to_json_dict()) for one in result.results]
    if len(findings) != len(expectations):
        raise ChildError(
            f"{counted(len(expectations), 'expectation')} gave {counted(len(findings), 'result')}",
            help="are two the same?",
        )
    worse = [f"{f.name}: {f.reason}" for f in findings if f.reason != HOLDS]
    holding = f"{len(findings) - len(worse)} of {counted(len(findings), 'expectation')}"
    return _told(worst(f.verdict for f in findings), "; ".join([holding, *worse]), findings)


def _told(verdict: Verdict, reason: str, findings: Sequence[Finding]) -> Plain:
    plain = [to_plain(finding) for finding in findings]
    return {"verdict": verdict.value, "reason": reason, "evidence": {"declared": len(plain), "findings": plain}}


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
        "observed": _plain(seen.get("observed_value")),
        "samples": list(seen.get("partial_unexpected_list") or [])[:SAMPLES],
    }
    column = f"({kwargs['column']})" if "column" in kwargs else ""
    name = f"{config['type']}{column}"
    crash = _crash(result.get("exception_info") or {})
    if crash:
        return Finding(name, Verdict.ERROR, f"could not be checked: {crash}", evidence)
    if result["success"]:
        return Finding(name, Verdict.PASS, HOLDS, evidence)
    if severity != "critical":
        return Finding(name, Verdict.PASS, f"does not hold ({severity} only): {_what_was_seen(evidence)}", evidence)
    return Finding(name, Verdict.FAIL, _what_was_seen(evidence), evidence)


def _plain(value: Any) -> Any:
    """Return the number of Python's own that *value*, one of numpy's, is."""
    return value.item() if isinstance(value, np.generic) else value


def _what_was_seen(evidence: Mapping[str, Any]) -> str:
    column = evidence["column"] or "the rows"
    if evidence["unexpected"] is not None:
        samples = ", ".join(dict.fromkeys(repr(sample) for sample in evidence["samples"] if sample is not None))
        return f"{column}: {evidence['unexpected']:,} of {evidence['rows']:,} unexpected" + (
            f", such as {samples}" if samples else ""
        )
    return f"{column}: observed {evidence['observed']!r}, expected {evidence['expected']}"


def _crash(info: Mapping[str, Any]) -> str:
    parts = [info] if "raised_exception" in info else list(info.values())
    messages = [str(p.get("exception_message")) for p in parts if isinstance(p, Mapping) and p.get("raised_exception")]
    return messages[0].splitlines()[0] if messages else ""

"""What the child of a project can be asked: each command takes JSON values and returns JSON values.

===========  =================================  ==================================================================
command      arguments                          returns
===========  =================================  ==================================================================
`describe`                                    the model, its policy, the digests of both, its files, its toolchain
`data`       cache, known                     files with sha256, digest, commit
`prepare`    out, files                       the folder `data` with train and holdout; counts and ranges
`expect`     files                            verdict, reason, evidence: findings on the raw rows
`tests`                                       verdict, reason, evidence: what the project's tests said
`train`      data, out, parameters, code      the artifact's folder, digest, inputs, toolchain; seconds
`rows`       data, part, start, limit, columns    rows as they are sent, their truths, the total
`gates`      data, scores                     verdict, findings, metrics
`try_guards`                                  findings: guards on the holdout, with stand-in scores
`accept`     url                              verdict, reason, evidence: what the acceptance tests said
`snapshot`   out                              a folder named by its content
`policy`     file, environment                the rollout that a Python file has, alone or in a model
===========  =================================  ==================================================================

Imports stand inside the functions: asking for rows should not wait for what training needs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from modelcd import snapshot as snapshots
from modelcd.domain.plain import to_plain
from modelcd.errors import ChildError, ProjectError
from modelcd.project.declare import Model, nearest
from modelcd.project.environment import refuse_unread
from modelcd.project.loading import load, load_policy
from modelcd.project.slicing import PIPELINE, Part, Slice, cut

Plain = dict[str, Any]
Arguments = Mapping[str, Any]

FACTS = "prepared.json"


def describe(project: Path, arguments: Arguments) -> Plain:  # noqa: ARG001 - all commands are called alike
    """Say what `pipeline.py` declares, and which code, policy and toolchain that is."""
    model, loaded = load_watched(project)
    _acceptance_is_there(project, model)
    refuse_unread(project, model.environment)
    training, policy = cut(project, Part.TRAINING, loaded), cut(project, Part.POLICY)
    whole = cut(project, Part.ALL, loaded)
    declared = {
        "gates": [to_plain(gate) for gate in model.gates],
        "rollouts": {name: to_plain(canary) for name, canary in model.rollouts.items()},
        "acceptance": to_plain(model.acceptance),
        "budgets": to_plain(model.budgets),
        "tests": model.tests,
    }
    python = ".".join(map(str, sys.version_info[:3]))
    data = {name: getattr(model.data, name) for name in ("pattern", "target", "time", "key", "holdout")}
    return {
        "name": model.name,
        "about": _about(project, model),
        "source": "train" if model.train is not None else "artifact",
        "method": model.method,
        "parameters": {str(k): _text(v) for k, v in model.parameters.items()},
        "data": {**data, "prepare": bool(model.data.prepare), "expectations": bool(model.data.expectations)},
        **declared,
        "training_code": _training_code(project, model, loaded),
        "policy_digest": policy.digest(declared, _tests_digest(project, model)),
        "files": {name: _sha256(project / name) for name in whole.files},
        "retrain": to_plain(model.retrain) if model.retrain is not None else None,
        "toolchain": {"python": python, **training.distributions},
    }


def _about(project: Path, model: Model) -> str:
    """Say what the model predicts, and what the first paragraph of `pipeline.py` says of it."""
    said = ast.get_docstring(ast.parse((project / PIPELINE).read_bytes())) or ""
    targets = " and ".join(f"`{name}`" for name in model.data.targets)
    return " ".join([f"Predicts {targets}."] * bool(targets) + said.split("\n\n")[0].split())


def data(project: Path, arguments: Arguments) -> Plain:
    """Find the files of the dataset and hash their content; `cache` is a file in which hashes are remembered."""
    from modelcd.project import data as dataset

    model = load(project)
    cache = arguments.get("cache")
    files = dataset.look(project, model.data.pattern, Path(cache) if cache else None)
    plain: Plain = {"files": dataset.plain_files(files), "digest": dataset.digest(files)}
    if arguments.get("known") is not None:
        plain["compared"] = dataset.compared(files, arguments["known"])
    return plain


def prepare(project: Path, arguments: Arguments) -> Plain:
    """Read the rows, apply `prepare`, and write those to learn from and the holdout into the folder `out`.

    `files` are those that `data` has found; others, or changed ones, are a `ChildError`.
    """
    from modelcd.project import data as dataset
    from modelcd.project.rows import write_rows
    from modelcd.project.training import watch_reading

    out = Path(arguments["out"])
    reading = watch_reading(project, [out])
    model, loaded = load_watched(project)
    rows, files = dataset.read(project, model.data, _hashes(arguments.get("files")))
    split = dataset.prepared(project, model.data, rows)
    dataset.gates_fit(model, split)
    read = set(reading()) - {file.path for file in files}
    _nothing_unseen(project, model, "prepare", cut(project, Part.TRAINING, loaded), read)
    out.mkdir(parents=True, exist_ok=True)
    write_rows(split.train, out / "train.parquet")
    write_rows(split.holdout, out / "holdout.parquet")
    facts = {**dataset.described(model.data, split), "files": dataset.plain_files(files)}
    (out / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return {"data": str(out), **facts}


def _hashes(files: Sequence[Mapping[str, Any]] | None) -> list[str] | None:
    return None if files is None else [str(file["sha256"]) for file in files]


def expect(project: Path, arguments: Arguments) -> Plain:
    """Check the project's expectations on the raw rows; `files` are those that `data` has found, as in `prepare`."""
    from modelcd.project import data as dataset
    from modelcd.project.checks import expectation_findings

    model = load(project)
    hashes = _hashes(arguments.get("files"))
    return expectation_findings(project, model, lambda: dataset.read(project, model.data, hashes)[0])


def tests(project: Path, arguments: Arguments) -> Plain:  # noqa: ARG001 - all commands are called alike
    """Run the project's own tests."""
    from modelcd.project.suites import run

    return run(project, load(project).tests, default="tests/", without="tests=None")


def accept(project: Path, arguments: Arguments) -> Plain:
    """Run the acceptance tests against the address `url`."""
    from modelcd.project.suites import run

    folder = load(project).acceptance.tests
    os.environ["MODELCD_URL"] = str(arguments["url"])
    return run(project, folder, default="", without="acceptance=Acceptance()")


def train(project: Path, arguments: Arguments) -> Plain:
    """Train on the rows prepared in the folder `data` and write the artifact folder `out`.

    With `snapshots`, the project's code is kept there first, with what its commit does not have of it (`source`);
    `files` are then those that were described, as for `snapshot`.
    """
    from modelcd.project.rows import read_rows
    from modelcd.project.training import estimator_facts, fitted, watch_reading, write_artifact

    out, source = Path(arguments["out"]), Path(arguments["data"])
    reading = watch_reading(project, [out, source])
    model, loaded = load_watched(project)
    if arguments.get("code", before := _training_code(project, model, loaded)) != before:
        raise ChildError(
            "pipeline.py, or what training imports or is given, changed since it was described",
            help="deliver again when it has been written",
        )
    kept = _source(project, model, loaded, arguments) if "snapshots" in arguments else {}
    frame = read_rows(source / "train.parquet")
    at, began = datetime.now(UTC), time.monotonic()
    estimator = fitted(project, model, frame.copy(), {**model.parameters, **arguments.get("parameters", {})})
    seconds = time.monotonic() - began
    code = cut(project, Part.TRAINING, loaded)
    _nothing_unseen(project, model, "train", code, reading())
    plain = write_artifact(out, project, model, estimator, frame, code)
    facts = {"began": at.isoformat(), "seconds": round(seconds, 3), **estimator_facts(estimator)}
    return {**plain, **facts, "rows": len(frame), "source": kept}


def rows(project: Path, arguments: Arguments) -> Plain:  # noqa: ARG001 - all commands are called alike
    """Return rows of `part` (holdout or train) of the folder `data` as they are sent to a model, with their truths.

    With a `limit` below the number of rows, that many, spread evenly; with `start`, those from there on.  All columns
    but the truth and the key are given, or only `columns`.
    """
    from modelcd.project.rows import plain_rows, read_rows, spread, truths_of

    folder, part = Path(arguments["data"]), str(arguments.get("part", "holdout"))
    facts, whole = _facts(folder), read_rows(folder / f"{part}.parquet")
    start, limit = int(arguments.get("start") or 0), arguments.get("limit")
    if start:
        frame = whole.iloc[start : start + int(limit) if limit else None]
    else:
        frame = spread(whole, int(limit) if limit else len(whole))
    columns = arguments.get("columns") or [c for c in facts["columns"] if c not in (*facts["targets"], facts["key"])]
    truths = truths_of(frame, facts["targets"])
    return {"rows": plain_rows(frame[list(columns)]), "truths": truths, "start": start, "total": len(whole)}


def gates(project: Path, arguments: Arguments) -> Plain:
    """Check the gates on the holdout in the folder `data`, with the scores that the servers gave.

    `scores` is a JSON file with `challenger` and perhaps `champion` (and `itself`: true when the two are one version);
    fewer scores than rows belong to the rows that `rows` gives for that `limit`.
    """
    from modelcd.project.checks import gate_findings
    from modelcd.project.rows import read_rows, spread

    scores = json.loads(Path(arguments["scores"]).read_text(encoding="utf-8"))
    frame = spread(read_rows(Path(arguments["data"]) / "holdout.parquet"), len(scores["challenger"]))
    return gate_findings(project, load(project), frame, scores)


def try_guards(project: Path, arguments: Arguments) -> Plain:  # noqa: ARG001 - all commands are called alike
    """Try the functions of guards on the holdout, with scores that no model gave; raises `ProjectError` for the data.

    What can be said without training: whether the data can be split, the gates' metrics fit the target, and a function
    tells right answers from wrong ones.
    """
    from modelcd.domain.verdict import Verdict
    from modelcd.project import data as dataset
    from modelcd.project.checks import guard_findings, stand_in_scores
    from modelcd.project.rows import truths_of

    model = load(project)
    split = dataset.prepared(project, model.data, dataset.read(project, model.data)[0])
    dataset.gates_fit(model, split)
    truths = truths_of(split.holdout, model.data.targets)
    two = len(set(map(repr, truths))) == 2
    kinds = [model.method] if model.method else ["predict_proba", "predict"] if two else ["predict"]
    tried = [guard_findings(project, model, stand_in_scores(kind, truths), truths, trained=False) for kind in kinds]
    # Which of the two the model will have is not known yet, and a function is written for one of them.
    findings = [
        min(found, key=lambda finding: list(Verdict).index(finding.verdict)) for found in zip(*tried, strict=True)
    ]
    copied = dataset.copied(model.data, split.train, split.holdout)
    return {"findings": [to_plain(finding) for finding in findings], "copied": copied}


def _facts(folder: str | Path) -> Plain:
    try:
        return dict(json.loads((Path(folder) / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ChildError(f"{folder} does not hold prepared rows", help="prepare the data first") from error


def snapshot(project: Path, arguments: Arguments) -> Plain:
    """Copy what `pipeline.py` reaches, policy included, into a folder of `snapshots` that is named by its content.

    `files` maps what was described to its sha256: a file that is another one by now is a `ChildError`.
    """
    model, loaded = load_watched(project)
    return {"snapshot": snapshots.keep(project, _snapshot_files(project, model, loaded, arguments), _kept(arguments))}


def _kept(arguments: Arguments) -> Path:
    return Path(arguments["snapshots"])


def _snapshot_files(project: Path, model: Model, loaded: Sequence[str], arguments: Arguments) -> list[str]:
    described = arguments.get("files", {})
    names = sorted({*cut(project, Part.ALL, loaded).files, *model.files})
    changed = next((name for name in names if described.get(name) not in (None, _sha256(project / name))), None)
    if changed is not None:
        raise ChildError(f"{changed} changed since it was described", help="deliver again when it has been written")
    return names


def _source(project: Path, model: Model, loaded: Sequence[str], arguments: Arguments) -> Plain:
    """Keep the code, and the patch that its commit needs to become it; say which commit that is."""
    from modelcd.project.git import commit_of

    files = _snapshot_files(project, model, loaded, arguments)
    plain = {"snapshot": snapshots.keep(project, files, _kept(arguments))}
    commit = commit_of(project, files)
    patch = snapshots.keep_patch(commit.patch, _kept(arguments)) if commit.patch else ""
    said = {name: getattr(commit, name) for name in ("worktree", "branch", "repository")}
    return {**plain, **said, "commit": commit.id, "patch": patch}


def policy(project: Path, arguments: Arguments) -> Plain:
    """Say which rollout into *environment* the Python file *file* of the folder has."""
    return {"rollout": to_plain(load_policy(project / str(arguments["file"]), str(arguments["environment"])))}


COMMANDS: Mapping[str, Callable[[Path, Arguments], Plain]] = {
    function.__name__: function
    for function in (describe, data, prepare, expect, tests, accept, train, rows, gates, try_guards, snapshot, policy)
}


# -- what the code is --------------------------------------------------------------------------------------------------


def load_watched(project: Path) -> tuple[Model, list[str]]:
    """Load the model; return also the project's files that ran although no import in their text names them."""
    model = load(project)
    known = set(cut(project, Part.ALL).files)
    return model, [name for name in loaded_files(project) if name not in known]


def loaded_files(project: Path) -> list[str]:
    """Return the project's files that are loaded as modules now, relative, sorted."""
    return sorted(path.relative_to(project).as_posix() for path in _module_files() if path.is_relative_to(project))


def _module_files() -> set[Path]:
    """Return the files of loaded modules that were not installed: the project's, and those from elsewhere."""
    installed = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).resolve().parents[1]}
    installed.add(Path(os.__file__).resolve().parent)

    @cache
    def whence(folder: str) -> tuple[Path, bool]:
        """Return where *folder* really is, and whether what is there was installed."""
        place = Path(folder).resolve()
        told = {"site-packages", "dist-packages"} & set(place.parts)
        return place, bool(told) or any(place.is_relative_to(one) for one in installed)

    found = set()
    for name in {str(f) for m in list(sys.modules.values()) if (f := getattr(m, "__file__", None))}:
        path = Path(name).resolve() if os.path.islink(name) else name
        folder, file = os.path.split(path)
        place, is_installed = whence(folder)
        if not is_installed and (place / file).is_file():
            found.add(place / file)
    return found


def _foreign(project: Path) -> dict[str, str]:
    """Map modules from elsewhere that have no version (editable installs, `PYTHONPATH`) to their sha256."""
    return {path.name: _sha256(path) for path in sorted(_module_files()) if not path.is_relative_to(project)}


def _material(project: Path, model: Model) -> Plain:
    """Return what training depends on besides code and data: parameters, named files, an artifact made elsewhere."""
    missing = next((name for name in model.files if not (project / name).is_file()), None)
    if missing is not None:
        raise ProjectError(f"there is no file {missing}", help="files=[…] names files of the project")
    plain: Plain = {"parameters": {str(k): _text(v) for k, v in model.parameters.items()}}
    plain["files"] = {name: _sha256(project / name) for name in model.files}
    if model.artifact is not None:
        source = project / model.artifact
        parts = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        if not source.exists():
            raise ProjectError(f"there is no artifact {model.artifact}", help="a file by joblib, or an MLflow folder")
        plain["artifact"] = {path.relative_to(project).as_posix(): _sha256(path) for path in parts}
    return plain


def _training_code(project: Path, model: Model, loaded: Sequence[str]) -> str:
    """Return the digest of what training depends on besides the data."""
    return cut(project, Part.TRAINING, loaded).digest(_material(project, model), _foreign(project))


def _acceptance_is_there(project: Path, model: Model) -> None:
    folder = model.acceptance.tests
    if folder and not (project / folder).exists():
        names = [f"{path.name}/" for path in project.iterdir() if path.is_dir() and not path.name.startswith(".")]
        raise ProjectError(
            f"there are no acceptance tests in {folder}",
            help=nearest(folder, names) if names else "write them, or leave acceptance away",
        )


def _tests_digest(project: Path, model: Model) -> dict[str, str]:
    folders = [project / folder for folder in (model.tests, model.acceptance.tests) if folder]
    paths = sorted({path for folder in folders for path in folder.rglob("*.py")})
    return {path.relative_to(project).as_posix(): _sha256(path) for path in paths}


def _nothing_unseen(project: Path, model: Model, who: str, code: Slice, opened: Iterable[str]) -> None:
    """Refuse a training that depends on files whose change would not train again."""
    whole = {*cut(project, Part.ALL).files, *code.files}
    unseen = [name for name in loaded_files(project) if name not in whole]
    if unseen:
        raise ProjectError(
            f"{who} imports {unseen[0]} in a way that cannot be read from the code",
            help="import it by name, so that a change of it is noticed",
        )
    artifact = model.artifact and PurePath(model.artifact)  # a folder's files are all in the digest
    unknown = sorted(
        name for name in set(opened) - set(model.files) if not (artifact and PurePath(name).is_relative_to(artifact))
    )
    if unknown:
        raise ProjectError(
            f"{who} reads {unknown[0]}, and a change of it would not be noticed",
            help=f"name it: Model(…, files=[{', '.join(map(repr, unknown))}])",
        )


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"parameters hold a {type(value).__name__}", help="numbers, texts, lists of them") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

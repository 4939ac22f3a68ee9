"""Trains in the child, tries the result, and writes the artifact that will be registered, served and judged.

The artifact carries the code that training reached and no more: `pipeline.py` goes in without its policy, so that the
same training gives the same folder under any policy.  What the model needs at serving is found out by asking it
(`feature_names_in_`), and by predicting a few real rows before anything is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from modelcd.artifact import Column, Manifest, Output, digest_of, write_manifest
from modelcd.domain.telling import counted
from modelcd.errors import ProjectError
from modelcd.project.declare import METHODS, Model, nearest, takes_parameters
from modelcd.project.loading import calling
from modelcd.project.rows import columns_of, plain_rows
from modelcd.project.slicing import PIPELINE, Slice, versions_of
from modelcd.serving.inputs import Inputs
from modelcd.serving.outputs import Array, NoScore, array_of, output_of, plain, said

TRIED_ROWS = 50
WARMUP_ROWS = 3
MOST_SETTINGS, LONGEST_SETTING = 100, 200

_SECRET = re.compile(r"api_?key|token|secret|passw|credential", re.IGNORECASE)


def fitted(project: Path, model: Model, frame: pd.DataFrame, parameters: Mapping[str, Any]) -> Any:
    """Return what `train` made of *frame*, or what `artifact` holds."""
    if model.train is None:
        return _loaded(project / str(model.artifact))
    arguments: dict[str, Any] = {"parameters": dict(parameters)} if takes_parameters(model.train) else {}
    with calling("train", project), _naming_columns(frame):
        result = model.train(frame, **arguments)
    if not any(callable(getattr(result, method, None)) for method in METHODS):
        raise ProjectError(
            f"train returned a {type(result).__name__} without {' or '.join(METHODS)}",
            help="return the fitted estimator: return pipeline.fit(…)",
        )
    return result


@contextmanager
def _naming_columns(frame: pd.DataFrame) -> Iterator[None]:
    """Say of a column that is asked for and not there that the data lacks it."""
    known = [str(name) for name in frame.columns]
    try:
        yield
    except KeyError as error:
        asked = re.findall(r"'([^']*)'", str(error))
        if not asked or asked[0] in known or not _raised_in_pandas(error):
            raise
        raise ProjectError(
            f"train needs a column {asked[0]!r}, and the data has none", help=nearest(asked[0], known)
        ) from error


def _raised_in_pandas(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(pd.__file__).parent}/" in frames[-1].filename


def _loaded(path: Path) -> Any:
    try:
        if (path / "MLmodel").is_file():
            import mlflow.pyfunc

            return mlflow.pyfunc.load_model(str(path))
        if path.is_file():
            return joblib.load(path)
    except Exception as error:
        raise ProjectError(f"the artifact {path.name} cannot be loaded: {type(error).__name__}: {error}") from error
    raise ProjectError(f"there is no artifact {path.name}", help="a file by joblib, or an MLflow model folder")


def inputs_of(estimator: Any, model: Model, frame: pd.DataFrame) -> list[str]:
    """Return the columns that a request must have: those the model says it was fitted with, or all but the truth."""
    truth = {*model.data.targets, model.data.key}
    try:
        said = [str(name) for name in estimator.feature_names_in_]
    except AttributeError:
        return [name for name in frame.columns if name not in truth]
    unknown = [name for name in said if name not in frame.columns]
    if unknown:
        raise ProjectError(
            f"the model was fitted with a column {unknown[0]!r} that the rows do not have",
            help="a request has the columns of the data: compute others inside of the model (a Pipeline step)",
        )
    return [name for name in frame.columns if name in set(said) - truth]


def method_of(estimator: Any, model: Model) -> str:
    """Return the method that gives the scores; raises `ProjectError` when the one that is asked for is not there."""
    method = model.method
    if method is None:
        classes = getattr(estimator, "classes_", None)
        two = hasattr(estimator, "predict_proba") and (classes is None or len(classes) == 2)
        method = "predict_proba" if two else "predict"
    if not callable(getattr(estimator, method, None)):
        raise ProjectError(
            f"the model has no {method}", help="name the other in Model(method=…), or return another object"
        )
    return method


def scores_of(estimator: Any, method: str, frame: pd.DataFrame, project: Path) -> tuple[Array, tuple[Any, ...]]:
    """Return the scores of *frame* and, where they are lists, the names of their numbers, as far as they are known.

    Raises `ProjectError` when the model gives anything that is no score.
    """
    with calling(f"the fitted model's {method}", project):
        answer = getattr(estimator, method)(frame)
    try:
        scores = array_of(answer, len(frame), chances=method == "predict_proba")
        plain(scores)
    except NoScore as error:
        what, _, advice = str(error).partition(": ")
        raise ProjectError(f"{method} {what}", help=advice or 'one score per row, or method="predict"') from error
    if method == "predict_proba":
        return scores, _names(getattr(estimator, "classes_", ()))
    return scores, _names(answer.columns) if isinstance(answer, pd.DataFrame) else ()


def _names(given: Any) -> tuple[Any, ...]:
    """Return *given*, classes or columns, as JSON has them; nothing when JSON has not."""
    names: Any = np.asarray(given).tolist() if np.ndim(given) == 1 else []
    return tuple(names) if all(isinstance(name, str | int | float) for name in names) else ()


def tried(
    estimator: Any, method: str, inputs: tuple[Column, ...], sample: pd.DataFrame, project: Path, targets: Sequence[str]
) -> Output:
    """Let the model score *sample* as it is and as the server will see it, and return what its scores are.

    Raises `ProjectError` unless both agree.
    """
    scores, names = scores_of(estimator, method, sample, project)
    served, _ = scores_of(estimator, method, Inputs(inputs).of_rows(plain_rows(sample)), project)
    same = np.isclose(scores, served) if scores.dtype.kind == "f" else scores == served
    if not same.all():
        wrong = int((~same.reshape(len(sample), -1).all(axis=1)).sum())
        changed = ", ".join(f"{column.name} ({column.kind})" for column in inputs if column.kind != "double")
        raise ProjectError(
            f"the model scores {wrong} of {counted(len(sample), 'row')} otherwise when they come as JSON",
            help=f"it depends on a type that JSON does not have; look at {changed or 'the columns'}",
        )
    output = output_of(plain(scores), names or (tuple(targets) if len(targets) > 1 else ()))
    if len(targets) > 1 and output.length != len(targets):
        raise ProjectError(
            f"there are {len(targets)} targets, and {method} gives {said(output)}",
            help="a model of several targets gives a list with a number for each, in their order",
        )
    return output


def write_artifact(
    out: Path, project: Path, model: Model, estimator: Any, frame: pd.DataFrame, code: Slice
) -> dict[str, Any]:
    """Write the artifact folder *out* and return what there is to know of it as JSON values."""
    inputs = inputs_of(estimator, model, frame)
    columns, method = columns_of(frame, inputs), method_of(estimator, model)
    output = tried(estimator, method, columns, frame[inputs].head(TRIED_ROWS), project, model.data.targets)
    places = np.unique(np.linspace(0, len(frame) - 1, WARMUP_ROWS).astype(int))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    flavor, file = _write_model(out, project, model, estimator)
    for name in code.files:
        target = out / "code" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == PIPELINE:
            target.write_text(code.sources[name], encoding="utf-8")
        else:
            shutil.copyfile(project / name, target)
    manifest = Manifest(
        model=model.name,
        flavor=flavor,
        file=file,
        method=method,
        inputs=columns,
        warmup=tuple(plain_rows(frame[inputs].iloc[places])),
        toolchain=toolchain(estimator, code),
        output=output,
    )
    write_manifest(out, manifest)
    return {
        "artifact": str(out),
        "digest": digest_of(out),
        "inputs": inputs,
        "method": method,
        "toolchain": dict(manifest.toolchain),
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }


def _write_model(out: Path, project: Path, model: Model, estimator: Any) -> tuple[str, str]:
    if model.artifact is not None:
        source = project / model.artifact
        if source.is_dir():
            shutil.copytree(source, out / source.name, copy_function=shutil.copyfile)
            for folder, _, _ in os.walk(out / source.name):
                os.chmod(folder, 0o700)  # whoever may read the source, what a workspace keeps is for its user
            return "pyfunc", source.name
        shutil.copyfile(source, out / source.name)
        return "object", source.name
    try:
        joblib.dump(estimator, out / "model.joblib")
    except Exception as error:
        raise ProjectError(
            f"the fitted model cannot be saved: {str(error).splitlines()[0]}",
            help="functions and classes inside of it must stand at the top level of a file (no lambda)",
        ) from error
    return "object", "model.joblib"


def estimator_facts(estimator: Any) -> dict[str, Any]:
    """Return the class of *estimator*, and the settings it says it has, as `estimator` and `settings`.

    Only numbers, texts, truth values and nothing are given, and not what is named like a secret.
    """
    kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    try:
        said = dict(estimator.get_params())
    except Exception:  # not an estimator of scikit-learn: it need not say any
        said = {}
    plain = {str(k): v for k, v in said.items() if isinstance(v, bool | int | float | str | None)}
    told = {k: str(v)[:LONGEST_SETTING] for k, v in sorted(plain.items()) if not _SECRET.search(k)}
    return {"estimator": kind, "settings": dict(list(told.items())[:MOST_SETTINGS])}


# -- toolchain ---------------------------------------------------------------------------------------------------------


def toolchain(estimator: Any, code: Slice) -> dict[str, str]:
    """Map `python` and each distribution that the model runs with to its version.

    These are the distributions that the code imports and the model's classes come from, and of what they require
    whatever is loaded now; data frames and joblib always, since the server uses them.
    """
    loaded = versions_of({name.split(".")[0] for name in list(sys.modules)})
    steps = [step for _, step in getattr(estimator, "steps", [])]
    # What a class is derived from is needed, too: LightGBM's classifier is one of scikit-learn's.
    own = versions_of({kind.__module__.split(".")[0] for part in (estimator, *steps) for kind in type(part).__mro__})
    found = _required({*code.distributions, *own, "pandas", "joblib"}, loaded)
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, **{name: loaded[name] for name in sorted(found)}}


def _required(start: Iterable[str], loaded: Mapping[str, str]) -> set[str]:
    canonical = {_canonical(name): name for name in loaded}
    found: set[str] = set()
    ahead = [canonical[_canonical(name)] for name in start if _canonical(name) in canonical]
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        found.add(name)
        required = (_canonical(re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0]) for r in _requirements(name))
        ahead += [canonical[r] for r in required if r in canonical]
    return found


def _requirements(name: str) -> list[str]:
    return [r for r in metadata.requires(name) or [] if not re.search(r"\bextra\s*==", r)]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# -- what is read besides the code -------------------------------------------------------------------------------------


def watch_reading(project: Path, ignored: Iterable[Path]) -> Callable[[], list[str]]:
    """Note which files of *project* Python code opens from now on; return a function that gives their names.

    Code, hidden files and whatever lies under *ignored* is left out.  Files that a library opens by itself, in C,
    are not seen.
    """
    root, skipped, opened = f"{project}/", tuple(f"{path}/" for path in ignored), set[str]()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str) or not isinstance(arguments[2], int):
            return
        path = arguments[0] if arguments[0].startswith("/") else root + arguments[0]
        if arguments[2] & 3 == 0 and path.startswith(root) and not path.startswith(skipped):
            opened.add(path)

    sys.addaudithook(hook)
    return lambda: sorted({name for path in opened if (name := _material(Path(path), project))})


def _material(path: Path, project: Path) -> str:
    name = path.relative_to(project)
    hidden = any(part.startswith((".", "__")) for part in name.parts) or "site-packages" in name.parts
    return "" if hidden or path.suffix in (".py", ".pyc", ".so") or not path.is_file() else name.as_posix()

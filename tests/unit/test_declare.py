"""What may be written in `pipeline.py`, and what is said about what may not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import modelcd
from modelcd import Acceptance, Canary, Dataset, Gate, Model, OnDoubt, guard
from modelcd.errors import ProjectError
from modelcd.project.loading import load, location

DATA = Dataset("data/*.csv", target="y", time="t")


def fit(frame: Any) -> Any:
    return frame


def fit_with(frame: Any, parameters: Any) -> Any:
    return frame, parameters


def model(**arguments: Any) -> Model:
    return Model("toy", **{"train": fit, "data": DATA, **arguments})


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[[str], ProjectError]]:
    """Write lines after the imports of a pipeline.py, load it, and return the error; line 4 is the first."""
    head = "from modelcd import Canary, Dataset, Gate, Model, Retrain, guard\n\ndef train(frame): return frame\n"

    def error(text: str) -> ProjectError:
        (tmp_path / "pipeline.py").write_text(head + text)
        with pytest.raises(ProjectError) as raised:
            load(tmp_path)
        return raised.value

    yield error
    sys.modules.pop("pipeline", None)
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


# -- what may be written -----------------------------------------------------------------------------------------------


def test_a_folder_of_acceptance_tests_is_enough_of_an_acceptance() -> None:
    assert model(acceptance="acceptance/").acceptance == Acceptance(tests="acceptance/")


def test_a_model_without_a_ladder_is_guarded_by_errors_and_latency() -> None:
    assert [g.name for g in model().rollout.guards] == ["errors", "latency"]


def test_a_latency_guard_watches_the_median_and_the_tail() -> None:
    assert guard.latency().ratios == ((0.5, 1.25), (0.99, 1.5))


def test_a_latency_guard_watches_what_it_is_told() -> None:
    assert guard.latency(p90=2).ratios == ((0.9, 2.0),)
    assert (guard.latency().grace, guard.latency(grace=0).grace) == (0.005, 0)


def test_a_success_guard_keeps_its_function() -> None:
    assert guard.success(test_a_success_guard_keeps_its_function).function is test_a_success_guard_keeps_its_function


@pytest.mark.parametrize(("text", "seconds"), [("7D", 604_800.0), ("36h", 129_600.0), ("2W", 1_209_600.0)])
def test_a_holdout_may_be_a_duration(text: str, seconds: float) -> None:
    assert Dataset("*.csv", target="y", time="t", holdout=text).holdout_seconds == seconds


def test_a_holdout_may_be_a_share() -> None:
    assert Dataset("*.csv", target="y", holdout=0.1).holdout_seconds is None


def test_a_public_name_of_modelcd_is_there() -> None:
    assert all(hasattr(modelcd, name) for name in modelcd.__all__ if name != "connect")


def test_importing_modelcd_loads_nothing_heavy() -> None:
    heavy = {"pandas", "numpy", "prefect", "mlflow", "sklearn", "great_expectations", "sqlalchemy", "httpx"}
    code = f"import sys, modelcd; print(sorted({heavy!r} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_importing_modelcd_takes_milliseconds() -> None:
    code = "import time; t = time.process_time(); import modelcd; print(time.process_time() - t)"
    deadline, best = time.monotonic() + 20, 1.0
    while best >= 0.06 and time.monotonic() < deadline:
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        best = min(best, float(told))

    assert best < 0.06


# -- what may not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"train": None}, "exactly one of train and artifact", id="neither"),
        pytest.param({"artifact": "m.joblib"}, "exactly one of train and artifact", id="both"),
        pytest.param({"train": 3}, "train must be a function", id="train is called"),
        pytest.param({"parameters": {"a": 1}}, "does not take them", id="parameters nobody takes"),
        pytest.param({"gates": [Gate("roc_auc")]}, "says no bound", id="a gate without bound"),
        pytest.param({"gates": ["roc_auc"]}, "gates holds a str", id="a gate that is none"),
        pytest.param({"gates": [Gate("roc_auc").per_slice("")]}, "slices by no column", id="a slice by nothing"),
        pytest.param({"data": "data/*.csv"}, "data must be a Dataset", id="data is a path"),
        pytest.param({"rollout": (5, 25)}, "rollout must be a Canary", id="rollout is a ladder"),
        pytest.param({"rollout": {}}, "rollout must be a Canary, or one for each", id="rollout of no environment"),
        pytest.param({"rollout": {"eu": (5,)}}, "rollout must be a Canary, or one for", id="a rollout is a ladder"),
        pytest.param(
            {"rollout": {name: Canary(guards=[guard.success(eval(f"lambda s, t: {name!r}"))]) for name in "ab"}},
            "two rollouts judge by guard 'success', each in its own way",
            id="one name, two functions",
        ),
        pytest.param({"method": "predict_prob"}, "method must be", id="a method"),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        model(**arguments)


def test_a_rollout_may_differ_by_environment_and_its_guards_are_those_of_all() -> None:
    slow = Canary(shares=(5,), guards=[guard.errors(margin=0.01), guard.success(max)])

    made = model(rollout={"eu": slow, "*": Canary(guards=[guard.errors()])})

    assert list(made.rollouts) == ["eu", "*"] and made.rollouts["eu"] is slow
    assert sorted(one.name for one in made.guards) == ["errors", "success"]
    assert list(model().rollouts) == ["*"]


def test_a_train_function_that_takes_parameters_gets_them() -> None:
    assert model(train=fit_with, parameters={"a": 1}).parameters == {"a": 1}


@pytest.mark.parametrize("name", ["Flight Delay", "flight_delay", "", "-x", "a/b/c"])
def test_a_name_that_is_no_model_name_is_refused(name: str) -> None:
    with pytest.raises(ProjectError, match="a model's name"):
        Model(name, train=fit, data=DATA)


def test_a_bad_name_comes_with_a_good_one() -> None:
    with pytest.raises(ProjectError) as raised:
        Model("Flight Delay", train=fit, data=DATA)

    assert raised.value.help == 'name="flight-delay"'


def test_a_metric_that_does_not_exist_comes_with_the_nearest_that_does() -> None:
    with pytest.raises(ProjectError) as raised:
        model(gates=[Gate("roc_acu").at_least(0.8)])

    assert "did you mean 'roc_auc'?" in raised.value.help


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate("roc_auc").at_least(1.5), "roc_auc is from 0 to 1"),
        (Gate("roc_auc").at_most(-0.1), "roc_auc is from 0 to 1"),
        (Gate("accuracy_score").at_least(95), "accuracy_score is from 0 to 1"),
        (Gate("matthews_corrcoef").at_least(-1.1), "matthews_corrcoef is from -1 to 1"),
        (Gate("log_loss").at_most(-1), "log_loss is 0 or more"),
        (Gate("r2").at_least(1.01), "r2 is 1 or less"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.metric,
)
def test_a_limit_that_no_value_can_reach_is_refused_before_anything_runs(gate: Gate, said: str) -> None:
    with pytest.raises(ProjectError, match=said) as raised:
        model(gates=[gate])

    assert "write a limit" in raised.value.help


def test_a_confidence_that_is_none_is_refused() -> None:
    with pytest.raises(ProjectError, match="confidence"):
        model(gates=[Gate("roc_auc", confidence=95).no_worse_than_champion(margin=0.1)])


def test_a_metric_may_have_the_name_of_scikit_learns_function() -> None:
    assert model(gates=[Gate("roc_auc_score").at_least(0.8)]).gates[0].metric == "roc_auc_score"


def test_a_metric_of_ones_own_may_have_any_name() -> None:
    assert model(gates=[Gate("profit", function=lambda truth, scores: 1.0).at_least(0)]).gates[0].metric == "profit"


@pytest.mark.parametrize("holdout", [0, 1, 1.5, "soon", "7"])
def test_a_holdout_that_is_neither_share_nor_duration_is_refused(holdout: Any) -> None:
    with pytest.raises(ProjectError, match="holdout"):
        Dataset("*.csv", target="y", time="t", holdout=holdout)


def test_a_holdout_by_time_needs_a_time() -> None:
    with pytest.raises(ProjectError, match="when a row happened"):
        Dataset("*.csv", target="y", holdout="7D")


def test_what_happens_in_doubt_is_one_of_the_known_words() -> None:
    assert Canary((), on_doubt="extend").on_doubt is OnDoubt.EXTEND
    with pytest.raises(ValueError, match=r"one of 'hold', 'extend', 'roll_back', got 'perhaps'"):
        Canary((), on_doubt="perhaps")


# -- where and what to do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        pytest.param(
            "ladder = Canary(shares=(5, 50, 25), guards=[guard.errors()])",
            "pipeline.py, line 4: rollout shares must rise and stay below 100, got (5, 50, 25)",
            "shares=(5, 25, 50)",
            id="a ladder that falls",
        ),
        pytest.param("g = guard.latncy()", "line 4: guard has no 'latncy'", "did you mean 'latency'?", id="a guard"),
        pytest.param(
            "g = guard.errors(margn=1)", "guard.errors takes no 'margn'", "did you mean 'margin'?", id="an argument"
        ),
        pytest.param(
            "model = Model(name='x', tarin=train)",
            "line 4: Model takes no 'tarin'",
            "did you mean 'train'?",
            id="a keyword",
        ),
        pytest.param("from modelcd import Canry", "modelcd has no 'Canry'", "did you mean 'Canary'?", id="an import"),
        pytest.param("x = tran", "nothing is named 'tran'", "did you mean 'train'?", id="a name"),
        pytest.param("import featurs", "no module is named 'featurs'", "featurs.py", id="a module"),
        pytest.param(
            'r = Retrain("0 25 * * *")',
            "line 4: cron='0 25 * * *' cannot be read: Bad hour",
            "is every day at five",
            id="a cron",
        ),
        pytest.param(
            'r = Retrain("0 5 * * *", timezone="Europe/Berln")',
            "line 4: no time zone is named 'Europe/Berln'",
            "did you mean 'Europe/Berlin'?",
            id="a time zone",
        ),
        pytest.param(
            'm = Model("m", train=print, data=Dataset("d/*.csv", target="y"), retrain="0 5 * * *")',
            "line 4: retrain must be a Retrain, got str",
            'retrain=Retrain("0 5 * * *")',
            id="a schedule",
        ),
        pytest.param(
            "c = Canary(guards=['latency'])",
            "line 4: Canary(guards=…) holds 'latency', which is no guard",
            "guards=[guard.errors(), …]",
            id="a guard by its name",
        ),
        pytest.param(
            "c = Canary(guards=None)",
            "line 4: Canary(guards=…): a list is needed, got None",
            "guards=[guard.errors(), …]",
            id="no list of guards",
        ),
        pytest.param(
            "r = Retrain()",
            "line 4: Retrain missing 1 required argument: 'cron'",
            "Retrain()",
            id="an argument left out",
        ),
        pytest.param("def f(:", "pipeline.py, line 4: ", "def f(:", id="syntax"),
        pytest.param("\nx = [1][2]", "line 5: IndexError: list index out of range", "[1][2]", id="any other error"),
        pytest.param("exit(3)", "line 4: called exit(3) while it was read", "", id="exit"),
        pytest.param("x = 1", "pipeline.py defines no model", "model = Model(", id="no model"),
        pytest.param(
            "m = Model('a', train=train, data=Dataset('d', target='y'))",
            "calls its model 'm'",
            "model = m",
            id="a misnomer",
        ),
        pytest.param(
            "model = Model('a', train=train, data=Dataset('d', target='y'))\n"
            "other = Model('b', train=train, data=Dataset('d', target='y'))",
            "has two models, model and other, and a project delivers one",
            "give other a project of its own",
            id="two models",
        ),
        pytest.param(
            "model = Model('a', train=train, data=Dataset('d', target='y'))\n"
            "def other(rows):\n    model = fit(rows)\n    return model\n"
            "model = Model('b', train=other, data=Dataset('d', target='y'))",
            "pipeline.py, line 8 replaces the model of line 4, and a project delivers one",
            "take one of the two away",
            id="a model that is replaced",
        ),
    ],
)
def test_a_mistake_says_where_it_is_and_what_to_do(
    written: Callable[[str], ProjectError], text: str, message: str, help: str
) -> None:
    error = written(text + "\n")

    assert message in error.message and help in error.help


@pytest.mark.parametrize("change", ["replace(model, name='b')", "model if model.gates else Model(**vars(model))"])
def test_a_model_may_be_made_of_the_one_before(tmp_path: Path, change: str) -> None:
    (tmp_path / "pipeline.py").write_text(
        "from dataclasses import replace\nfrom modelcd import Dataset, Model\n"
        f"model = Model('a', train=print, data=Dataset('d', target='y'))\nmodel = {change}\n"
    )
    try:
        assert load(tmp_path).name in ("a", "b")
    finally:
        sys.modules.pop("pipeline", None)
        sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Canary((), keep_warm='600')", "Canary(keep_warm=…): a number is needed, got '600'"),
        ("Canary((), keep_warm=-1)", "Canary(keep_warm=…) is in seconds, 0 for none, got -1"),
        ("Canary((), fallback='no')", "Canary(fallback=…): yes or no is needed, got 'no'"),
        ("Canary((), warm_up=1.5)", "Canary(warm_up=…): a whole number is needed, got 1.5"),
        ("Canary((), alpha=None)", "Canary(alpha=…): a number is needed, got None"),
        ("Gate(max).at_least(0.5)", "Gate(metric=…): a name is needed, got <built-in function max>"),
        ("guard.success(max, name=3)", "guard(name=…): a text is needed, got 3"),
        ("Dataset('d', target='y', time=3)", "Dataset(time=…): a text is needed, got 3"),
        ("Dataset('d', target=3)", "a dataset needs a target"),
        ("Dataset('d', target='y', holdout=None)", "holdout is a share between 0 and 1 or a duration, got None"),
        ("Model('a', train=train, data=Dataset('d', target='y'), gates=None)", "Model(gates=…): a list is needed, got"),
        ("Model('a', train=train, data=Dataset('d', target='y'), files='a.yaml')", "Model(files=…): a list is needed"),
        ("Model('a', train=train, data=Dataset('d', target='y'), files=[1])", "files holds 1, which is no path"),
        ("Model('a', train=train, data=Dataset('d', target='y'), environment='URL')", "a list is needed, got 'URL'"),
        ("Model('a', train=train, data=Dataset('d', target='y'), tests=3)", "Model(tests=…): a text is needed, got 3"),
        ("Model('a', train=train, data=Dataset('d', target='y'), parameters=None)", "parameters must be a dict"),
    ],
)
def test_an_argument_of_another_kind_is_refused_where_it_is_written(
    written: Callable[[str], ProjectError], text: str, message: str
) -> None:
    said = written(f"x = {text}\n").message

    assert said.startswith("pipeline.py, line 4: ") and message in said


def test_a_mistake_in_an_imported_file_is_told_of_that_file(
    written: Callable[[str], ProjectError], tmp_path: Path
) -> None:
    (tmp_path / "toy_ladder.py").write_text("from modelcd import guard\n\nguards = [guard.errors(margin=7)]\n")
    error = written("import toy_ladder\n")

    assert error.message.startswith("toy_ladder.py, line 3: guard errors: margin is a fraction")


def test_a_folder_without_pipeline_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"there is no pipeline\.py"):
        load(tmp_path)


def test_a_library_in_an_environment_inside_the_project_is_not_named_as_the_project_s(tmp_path: Path) -> None:
    library = tmp_path / ".venv" / "lib" / "site-packages" / "library.py"
    library.parent.mkdir(parents=True)
    library.write_text("def refuse():\n    raise ValueError('no')\n")
    pipeline = tmp_path / "pipeline.py"
    names: dict[str, Any] = {}
    exec(compile(library.read_text(), str(library), "exec"), names)

    with pytest.raises(ValueError, match="no") as raised:
        exec(compile("\nrefuse()\n", str(pipeline), "exec"), names)

    assert location(raised.value, tmp_path) == "pipeline.py, line 2"

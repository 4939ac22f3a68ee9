"""What a user writes in `pipeline.py`: the model, its data, and the policy under which it is delivered.

Everything here is a frozen value that is checked when it is written, because a mistake is cheapest before anything
ran.  The checks need no data and import nothing heavy, so what only the data can tell (a missing column, a holdout
without rows) is found later, in the child.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from modelcd.domain.policy import (
    Acceptance,
    Bound,
    Budgets,
    Canary,
    Gate,
    Guard,
    GuardKind,
    by_environment,
    check_kinds,
    members,
)
from modelcd.domain.schedule import Retrain
from modelcd.domain.versions import LONGEST, misnamed, valid_model_name
from modelcd.errors import ProjectError

if TYPE_CHECKING:
    from pandas import DataFrame

METHODS = ("predict_proba", "predict")

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(w|d|h|min)\s*", re.IGNORECASE)
_SECONDS = {"w": 7 * 86_400.0, "d": 86_400.0, "h": 3_600.0, "min": 60.0}


@dataclass(frozen=True)
class Dataset:
    """The rows that a model learns from and is checked with: files of one shape, in the project or beside it.

    Args:
        pattern: A glob of parquet or CSV files, relative to the project.  A column of a CSV in which digits have a
            zero in front, as in zip codes, is text.
        target: The column to predict; no input of the model.  Or several columns of numbers, `("low", "high")`, for a
            model that gives a list.
        time: The column that says when a row happened.  Without it the order of the files and their rows counts.
        prepare: `(DataFrame) -> DataFrame`, from the raw rows to those to learn from.  It may drop rows; how many is
            reported, since live such rows are asked for all the same.
        expectations: Called with the module `great_expectations.expectations`; returns what must hold of the raw rows.
            One that returns nothing stops a delivery.
        holdout: What is kept from training, the newest rows: a share (0.2) or a duration (`"7D"`, `"36h"`, `"2W"`).
        key: A column that names each row; no input of the model.

    Raises:
        ProjectError: Something cannot be meant; what only the rows can tell is found when they are read.

    Examples:
        >>> from modelcd import Dataset
        >>> def expectations(expect):
        ...     return [expect.ExpectColumnValuesToNotBeNull(column="dep_delay")]
        >>> data = Dataset("data/*.parquet", target="late", time="date", expectations=expectations, holdout="7D")
        >>> data.holdout_seconds
        604800.0
    """

    pattern: str
    target: str | tuple[str, ...] = field(kw_only=True)
    time: str | None = field(default=None, kw_only=True)
    prepare: Callable[[DataFrame], DataFrame] | None = field(default=None, kw_only=True, compare=False, repr=False)
    expectations: Callable[[Any], Iterable[Any]] | None = field(default=None, kw_only=True, compare=False, repr=False)
    holdout: float | str = field(default=0.2, kw_only=True)
    key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_kinds("Dataset", self)
        if not self.pattern or "://" in self.pattern:
            raise ProjectError(
                f"a dataset is a glob of files, got {self.pattern!r}", help='for example Dataset("data/*.parquet", …)'
            )
        if isinstance(self.target, list):
            object.__setattr__(self, "target", tuple(self.target))
        if (
            not isinstance(self.target, str | tuple)
            or not self.targets
            or not all(isinstance(name, str) and name for name in self.targets)
        ):
            raise ProjectError(
                "a dataset needs a target",
                help='target="late" names the column to predict, target=("low", "high") several',
            )
        for name in self.targets:
            if name in (self.time, self.key):
                raise ProjectError(
                    f"target and {'time' if name == self.time else 'key'} are the same column, {name!r}",
                    help="the target is what is not known when the model is asked",
                )
            if self.targets.count(name) > 1:
                raise ProjectError(f"the target {name!r} is named twice", help="name each column once")
        for name in ("prepare", "expectations"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ProjectError(f"{name} must be a function", help=f"{name}={name} passes it, without calling it")
        if isinstance(self.holdout, str):
            self._check_duration(self.holdout)
        elif not isinstance(self.holdout, Real) or not 0 < self.holdout < 1:
            raise ProjectError(
                f"holdout is a share between 0 and 1 or a duration, got {self.holdout!r}",
                help='holdout=0.2 keeps the newest fifth, holdout="7D" the last seven days',
            )

    def _check_duration(self, text: str) -> None:
        if not _DURATION.fullmatch(text):
            raise ProjectError(
                f"holdout {text!r} is not a duration", help='write "7D", "36h", "2W" or a share like 0.2'
            )
        if self.time is None:
            raise ProjectError(
                f"holdout={text!r} needs to know when a row happened", help='name the column: time="date"'
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict, one or more.

        Examples:
            >>> Dataset("data/*.csv", target=("low", "high")).targets
            ('low', 'high')
        """
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def holdout_seconds(self) -> float | None:
        """The duration that `holdout` says, in seconds; None when it is a share.

        Examples:
            >>> Dataset("data/*.csv", target="late").holdout_seconds is None
            True
        """
        match = _DURATION.fullmatch(self.holdout) if isinstance(self.holdout, str) else None
        return float(match[1]) * _SECONDS[match[2].lower()] if match else None


class guard:  # noqa: N801 - a namespace, read as guard.errors()
    """The live metrics that a release can be guarded by, each challenger against champion at the same time.

    Each function returns a `Guard`, whose methods `at_most` and `at_least` turn it into an absolute limit (an SLO).

    Examples:
        >>> from modelcd import Canary, guard
        >>> def correct(score, label):
        ...     return (score >= 0.5) == label
        >>> rollout = Canary(
        ...     guards=[
        ...         guard.errors(margin=0.01),
        ...         guard.latency(),
        ...         guard.latency().at_most(0.3, quantile=0.99),
        ...         guard.success(correct, margin=0.03),
        ...     ]
        ... )
    """

    @staticmethod
    def errors(margin: float = 0.01) -> Guard:
        """Tolerate at most *margin* more failed answers.

        Args:
            margin: A fraction of the requests, between 0 and 1: 0.01 is one percentage point.

        Raises:
            ValueError: *margin* is not between 0 and 1.

        Examples:
            >>> guard.errors(margin=0.005).margin
            0.005
            >>> guard.errors().at_most(0.05).name
            'errors at most 0.05'
        """
        return Guard(name="errors", kind=GuardKind.ERRORS, margin=margin)

    @staticmethod
    def latency(
        *, p50: float | None = None, p90: float | None = None, p99: float | None = None, grace: float = 0.005
    ) -> Guard:
        """Tolerate quantiles of the latency up to these ratios to the champion's; without any, p50=1.25 and p99=1.5.

        Args:
            p50: The tolerated ratio of medians, above 1.
            p90: The tolerated ratio of 90th percentiles.
            p99: The tolerated ratio of 99th percentiles.
            grace: How many seconds slower is tolerated whatever the ratio.

        Raises:
            ValueError: A ratio is not above 1, or above 100; *grace* is negative.

        Examples:
            >>> guard.latency(p99=1.2, grace=0.01).ratios
            ((0.99, 1.2),)
        """
        given = ((0.5, p50), (0.9, p90), (0.99, p99))
        ratios = tuple((q, float(ratio)) for q, ratio in given if ratio is not None)
        given_or_usual = ratios or ((0.5, 1.25), (0.99, 1.5))
        return Guard(name="latency", kind=GuardKind.LATENCY, ratios=given_or_usual, grace=grace)

    @staticmethod
    def success(
        function: Callable[[Any, Any], bool], margin: float = 0.03, *, name: str = "success", label: Any = None
    ) -> Guard:
        """Tolerate at most *margin* fewer predictions for which `function(score, label)` is true.

        It counts predictions whose label came (`modelcd feedback`), also long after the request.

        Args:
            function: `(score, label) -> bool`; runs in a child process, with the score that was answered.
            margin: A fraction of the labelled predictions, between 0 and 1.
            name: What it is called; unique within a rollout.
            label: What a label is; what comes otherwise is refused.  `bool`, `int`, `float`, `str`, `dict`,
                `list[float]`, or the classes, `("cat", "dog")`.  Without it a truth value, a number or a text.

        Raises:
            ProjectError: *function* is no function, or *label* is nothing that a label can be.
            ValueError: *margin* is not between 0 and 1.

        Examples:
            >>> def correct(score, label):
            ...     return (score >= 0.5) == label
            >>> guard.success(correct, margin=0.03, label=bool).name
            'success'
        """
        return guard.outcome(function, margin, name=name, label=label)

    @staticmethod
    def outcome(
        function: Callable[[Any, Any], bool],
        margin: float = 0.03,
        *,
        name: str,
        higher_is_better: bool = True,
        label: Any = None,
    ) -> Guard:
        """Tolerate at most *margin* fewer predictions for which `function(score, label)` is true, or more of them.

        Args:
            function: `(score, label) -> bool`.
            margin: A fraction of the labelled predictions, between 0 and 1.
            name: What it is called; unique within a rollout.
            higher_is_better: False where true is bad (a complaint, a refund).
            label: What a label is, as in `guard.success`.

        Raises:
            ProjectError: *function* is no function.
            ValueError: *margin* is not between 0 and 1.

        Examples:
            >>> def refunded(score, label):
            ...     return label == "refund"
            >>> guard.outcome(refunded, 0.01, name="refunds", higher_is_better=False).name
            'refunds'
        """
        _checked_function(name, function, "bool", "def correct(score, label): return (score >= 0.5) == label")
        kind, classes = _label(name, label)
        return Guard(
            name,
            GuardKind.SUCCESS,
            margin,
            function=function,
            higher_is_better=higher_is_better,
            label=kind,
            classes=classes,
        )

    @staticmethod
    def metric(
        function: Callable[[Any, Any], float],
        margin: float,
        *,
        name: str,
        low: float = 0.0,
        high: float = 1.0,
        higher_is_better: bool = True,
        label: Any = None,
    ) -> Guard:
        """Tolerate a mean of `function(score, label)` that is worse by at most *margin*.

        Args:
            function: `(score, label) -> float`, from *low* to *high*; any other answer is an error, never a pass.
            margin: In the metric's own unit, above 0 and below *high* - *low*.
            name: What it is called; unique within a rollout.
            low: The least value; the narrower the bounds, the fewer labels it takes.
            high: The greatest value.
            higher_is_better: False where a smaller number is better (an error, a cost).
            label: What a label is, as in `guard.success`.

        Raises:
            ProjectError: *function* is no function.
            ValueError: *margin* does not lie between 0 and *high* - *low*.

        Examples:
            >>> def off_by(score, label):
            ...     return min(abs(score - label), 100.0)
            >>> guard.metric(off_by, 2.0, name="absolute error", high=100.0, higher_is_better=False).width
            100.0
        """
        _checked_function(name, function, "float", "def earned(score, label): return min(label, 100.0)")
        kind, classes = _label(name, label)
        return Guard(
            name,
            GuardKind.METRIC,
            margin,
            function=function,
            higher_is_better=higher_is_better,
            low=float(low),
            high=float(high),
            label=kind,
            classes=classes,
        )


def _label(name: str, given: Any) -> tuple[str, tuple[Any, ...]]:
    # Looked up late: most of what is imported with it, `import modelcd` should not wait for.
    from modelcd.domain.labels import declared

    try:
        return declared(given)
    except ValueError as error:
        what, _, how = str(error).partition(": ")
        raise ProjectError(f"guard {name!r}: {what}", help=how or "label=('cat', 'dog')") from error


def _checked_function(name: str, function: Any, returns: str, example: str) -> None:
    if not callable(function):
        raise ProjectError(
            f"guard {name!r} needs a function (score, label) -> {returns}, got {type(function).__name__}", help=example
        )


DEFAULT_GUARDS: Final = (guard.errors(), guard.latency())


@dataclass(frozen=True)
class Model:
    """A model and how it is delivered; `pipeline.py` has one, named `model`.

    It comes from exactly one of *train* and *artifact*.

    Args:
        name: `[team/]name`, in lower case letters, digits and dashes.
        data: The rows that it learns from and is checked with.
        train: `(DataFrame) -> fitted object` with `predict_proba` or `predict`; the frame has the target in it.  With
            an argument named `parameters` it gets *parameters* as well.
        artifact: A model that was trained elsewhere: a file by joblib, or an MLflow model folder.
        gates: What must hold on the holdout.  Without any, no version goes on.
        acceptance: What must hold in staging; a folder of pytest tests is short for `Acceptance(folder)`.
        rollout: The way into each environment after the first; by default a canary of 5, 25 and 50 % under
            `guard.errors()` and `guard.latency()`.  Where they differ, `{"eu": Canary(…), "*": Canary(…)}`, by the
            environment's name; `"*"` is every other.
        parameters: What *train* gets; they are recorded, and a change of one trains again.
        budgets: How long each part may take.
        tests: A folder of pytest tests that run before training; None for none.  One in which no test runs, or all are
            skipped, stops a delivery.
        files: What training reads besides its code and data (a YAML of settings, say); a change of one trains again.
        environment: Names of variables of the environment that the project's code gets besides those that every
            program needs (docs/security.md), written out here; their values are kept nowhere.
        method: `"predict_proba"` or `"predict"`, the one that gives the scores; found out when left away: chances
            of two classes, `predict` for anything else.  With `"predict_proba"` and more classes a score is a list.
        retrain: When to look for new data and deliver by itself; never, when left away.

    Raises:
        ProjectError: Something cannot be meant; the message says what to write.

    Examples:
        >>> from modelcd import Canary, Dataset, Gate, Model, guard
        >>> def train(rows):
        ...     from sklearn.linear_model import LogisticRegression
        ...
        ...     return LogisticRegression().fit(rows.drop(columns=["late"]), rows["late"])
        >>> model = Model(
        ...     name="flight-delay",
        ...     train=train,
        ...     data=Dataset("data/*.parquet", target="late", time="date"),
        ...     gates=[Gate("roc_auc").at_least(0.80), Gate("roc_auc").no_worse_than_champion(margin=0.01)],
        ...     acceptance="acceptance/",
        ...     rollout=Canary(shares=(5, 25, 50), guards=[guard.errors(), guard.latency()]),
        ... )
    """

    name: str
    train: Callable[..., Any] | None = field(default=None, kw_only=True, compare=False, repr=False)
    artifact: str | None = field(default=None, kw_only=True)
    data: Dataset = field(kw_only=True)
    gates: tuple[Gate, ...] = field(default=(), kw_only=True)
    acceptance: Acceptance = field(default=Acceptance(), kw_only=True)
    rollout: Canary | Mapping[str, Canary] = field(default=Canary(guards=DEFAULT_GUARDS), kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    budgets: Budgets = field(default=Budgets(), kw_only=True)
    tests: str | None = field(default="tests/", kw_only=True)
    files: tuple[str, ...] = field(default=(), kw_only=True)
    environment: tuple[str, ...] = field(default=(), kw_only=True)
    method: str | None = field(default=None, kw_only=True)
    retrain: Retrain | None = field(default=None, kw_only=True)

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            data: Dataset,
            train: Callable[..., Any] | None = None,
            artifact: str | None = None,
            gates: Iterable[Gate] = (),
            acceptance: Acceptance | str = ...,
            rollout: Canary | Mapping[str, Canary] = ...,
            parameters: Mapping[str, Any] = ...,
            budgets: Budgets = ...,
            tests: str | None = "tests/",
            files: Iterable[str] = (),
            environment: Iterable[str] = (),
            method: str | None = None,
            retrain: Retrain | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        self._check_name()
        check_kinds("Model", self)
        self._check_source()
        if isinstance(self.acceptance, str):
            object.__setattr__(self, "acceptance", Acceptance(tests=self.acceptance))
        for name, kind in (("data", Dataset), ("acceptance", Acceptance), ("budgets", Budgets)):
            if not isinstance(getattr(self, name), kind):
                raise ProjectError(
                    f"{name} must be a {kind.__name__}, got {type(getattr(self, name)).__name__}",
                    help=f"{name}={kind.__name__}(…)",
                )
        self._check_rollout()
        if not isinstance(self.parameters, Mapping):
            raise ProjectError(f"parameters must be a dict, got {self.parameters!r}", help='parameters={"depth": 3}')
        if self.retrain is not None and not isinstance(self.retrain, Retrain):
            raise ProjectError(
                f"retrain must be a Retrain, got {type(self.retrain).__name__}", help='retrain=Retrain("0 5 * * *")'
            )
        object.__setattr__(
            self, "gates", tuple(map(_checked_gate, self._members("gates", 'gates=[Gate("roc_auc").at_least(0.8)]')))
        )
        object.__setattr__(self, "files", tuple(map(_path, self._members("files", 'files=["settings.yaml"]'))))
        variables = self._members("environment", 'environment=["FEATURES_URL"]')
        object.__setattr__(self, "environment", tuple(map(_variable, variables)))
        if self.method is not None and self.method not in METHODS:
            raise ProjectError(
                f"method must be {' or '.join(METHODS)}, got {self.method!r}", help=nearest(self.method, METHODS)
            )

    def _members(self, name: str, example: str) -> tuple[Any, ...]:
        return members("Model", name, getattr(self, name), example)

    def _check_name(self) -> None:
        if not isinstance(self.name, str) or not valid_model_name(self.name):
            good = re.sub(r"[^a-z0-9/]+", "-", str(self.name).lower())[:LONGEST].strip("-/") or "flight-delay"
            raise ProjectError(
                misnamed(self.name),
                help=f'name="{good}"',
            )

    @property
    def rollouts(self) -> dict[str, Canary]:
        """Its rollout by the name of the environment, `"*"` for those that are not named.

        Examples:
            >>> list(model.rollouts)
            ['*']
        """
        return by_environment(self.rollout)

    @property
    def guards(self) -> tuple[Guard, ...]:
        """The guards of all its rollouts, each name once.

        Examples:
            >>> [guard.name for guard in model.guards]
            ['errors', 'latency']
        """
        return tuple({guard.name: guard for canary in self.rollouts.values() for guard in canary.guards}.values())

    def _check_rollout(self) -> None:
        rollouts = self.rollouts
        named = all(isinstance(name, str) and name for name in rollouts)
        if not rollouts or not named or not all(isinstance(canary, Canary) for canary in rollouts.values()):
            raise ProjectError(
                f"rollout must be a Canary, or one for each environment, got {self.rollout!r}",
                help='rollout=Canary(…), or rollout={"eu": Canary(…), "*": Canary(…)}',
            )
        if isinstance(self.rollout, Mapping):
            object.__setattr__(self, "rollout", rollouts)
        known = {guard.name: guard for guard in self.guards}
        for guard in (guard for canary in rollouts.values() for guard in canary.guards):
            if _judges(guard) != _judges(known[guard.name]):
                raise ProjectError(
                    f"two rollouts judge by guard {guard.name!r}, each in its own way",
                    help="give one of the two another name",
                )

    def _check_source(self) -> None:
        if (self.train is None) == (self.artifact is None):
            raise ProjectError(
                f"model {self.name!r} needs exactly one of train and artifact",
                help='train=train (a function) or artifact="model.joblib" (a fitted object on disk)',
            )
        if self.train is None:
            return
        if not callable(self.train):
            raise ProjectError("train must be a function", help="train=train passes it, without calling it")
        if self.parameters and not takes_parameters(self.train):
            raise ProjectError(
                f"parameters are given, but {getattr(self.train, '__name__', 'train')} does not take them",
                help="def train(frame, parameters): …",
            )


def _judges(guard: Guard) -> tuple[Any, ...]:
    """Return what decides how *guard* judges one answer."""
    return guard.kind, guard.function, guard.low, guard.high


def _path(given: Any) -> str:
    if not isinstance(given, str | PurePath):
        raise ProjectError(f"files holds {given!r}, which is no path", help='files=["settings.yaml"]')
    return str(PurePath(given))


def _variable(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ProjectError(f"environment holds {name!r}, which names no variable", help='environment=("FEATURES_URL",)')
    if name.startswith(("MODELCD_", "PREFECT_")):
        raise ProjectError(f"environment names {name}, which is not for a project", help="leave it out")
    return name


def takes_parameters(train: Callable[..., Any]) -> bool:
    """Say whether *train* has an argument named `parameters` (or takes any keyword)."""
    try:
        arguments = inspect.signature(train).parameters
    except (TypeError, ValueError):
        return False
    return "parameters" in arguments or any(a.kind is a.VAR_KEYWORD for a in arguments.values())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest of the *known* names, or with all of them; empty when none is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names[:12])}" + (", …" if len(names) > 12 else "") if names else ""


def _checked_gate(gate: Any) -> Gate:
    if not isinstance(gate, Gate):
        raise ProjectError(f"gates holds a {type(gate).__name__}", help='write Gate("roc_auc").at_least(0.8)')
    if gate.bound is None:
        raise ProjectError(
            f"gate {gate.metric!r} says no bound", help=f'add one: Gate("{gate.metric}").at_least(0.8), .at_most(…), …'
        )
    # Looked up late: they need numpy, which `import modelcd` should not wait for.
    from modelcd.domain.gates import unreachable
    from modelcd.domain.metrics import METRICS, known

    if gate.function is None and known(gate.metric) is None:
        raise ProjectError(
            f"no metric is named {gate.metric!r}",
            help=nearest(gate.metric, METRICS) + "  (one of your own: Gate(name, function=f))",
        )
    if gate.function is not None and not callable(gate.function):
        raise ProjectError(f"gate {gate.metric!r}: function is no function", help="function=cost, without calling it")
    if outside := unreachable(gate):
        raise ProjectError(
            f"gate {gate.metric!r}: {outside}", help="write a limit between the two, or take away the gate"
        )
    if not 0.5 < gate.confidence < 1:
        raise ProjectError(
            f"gate {gate.metric!r}: confidence lies between 0.5 and 1, got {gate.confidence:g}", help="confidence=0.95"
        )
    if gate.bound is Bound.SLICES and not gate.column:
        raise ProjectError(f"gate {gate.metric!r} slices by no column", help='.per_slice("carrier")')
    if gate.margin < 0:
        raise ProjectError(f"gate {gate.metric!r}: a margin is not negative, got {gate.margin:g}", help="margin=0.01")
    return gate

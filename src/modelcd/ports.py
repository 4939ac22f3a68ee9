"""What the engine needs from the world: each port has at most four methods, and none that an adapter may leave empty.

Adapters translate their library's errors into `modelcd.errors` at one door.  Every method is safe to call twice.
Constructing an adapter does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from modelcd.domain.card import Card
from modelcd.domain.records import Entry, Head, Record
from modelcd.domain.routing import Abilities, Routing
from modelcd.domain.samples import Counters
from modelcd.domain.versions import Lineage, ModelVersion

Still = Callable[[], None]
"""Asked by what changes the world, right before it does: raises (a `Conflict`) when the caller was overtaken.

A driver may be frozen anywhere between its decision and the effect, and others go on meanwhile.
"""


def always() -> None:
    """Nobody can have overtaken who is alone."""


# -- memory ------------------------------------------------------------------------------------------------------------


class Journal(Protocol):
    """The append-only, hash-chained record of what was meant and what happened, one stream per endpoint."""

    def read(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of *stream* with a sequence number above *after*, in order; an unknown stream is empty."""
        ...

    def append(self, stream: str, expected: int, entries: Sequence[Entry]) -> list[Record]:
        """Append *entries* behind record number *expected*, all or none.

        Raises `Conflict` when the newest record is not number *expected* (0: the stream is empty).
        """
        ...

    def heads(self, prefix: str = "") -> Mapping[str, Head]:
        """Return the ends of all streams whose names begin with *prefix*, in the order of their names.

        Costs what it returns, however long the streams are.
        """
        ...

    def exclusive(self, stream: str, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold *stream* for one tick; raises `Busy` when another holder does not leave within *wait* seconds.

        The hold ends with the process that has it, however that ends, and goes over to who has waited for seconds
        without a sign of life from it.  Who lost a hold is not told: what it writes afterwards is a `Conflict`.
        """
        ...


@dataclass(frozen=True)
class Build:
    """A fitted model on disk, ready to be registered: `artifact` is a folder, `digest` its sha256 (see `artifacts`).

    `by` is who wanted it, `project` where its code lies; training `began` at that moment (ISO 8601) and took so many
    `seconds`; `settings` are what the estimator says of itself.  `metrics` and `failed` are what its gates made of it;
    `failed` is None before they did.  `source` says where the data lie, and `holdout_rows` of them were kept apart.
    """

    model: str
    artifact: Path
    digest: str
    lineage: Lineage
    by: str = ""
    project: str = ""
    began: str = ""
    seconds: float = 0.0
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    failed: bool | None = None
    source: str = ""
    holdout_rows: int = 0


class Registry(Protocol):
    """The versions of models with their artifacts, lineage and aliases."""

    def add(self, build: Build) -> ModelVersion:
        """Register *build*; the same training digest again returns the version that is there.

        What its gates made of it is told then, for those who look at the registry.
        """
        ...

    def versions(self, model: str) -> list[ModelVersion]:
        """Return the versions of *model*, oldest first, aliases included; an unknown model has none."""
        ...

    def fetch(self, model: str, number: int) -> Path:
        """Return a local folder with the artifact, its digest checked; raises `UnknownName`, `RegistryError`."""
        ...

    def point(self, model: str, alias: str, number: int | None, still: Still = always) -> None:
        """Let *alias* name version *number*, or nothing."""
        ...


class Catalog(Protocol):
    """Where people look up models and versions; what it says is a copy, and nothing is ever decided from it."""

    def shown(self, model: str) -> str:
        """Return `Card.journal` of the card of *model* that was shown last, in whole; empty for none."""
        ...

    def show(self, card: Card) -> None:
        """Let the pages say what *card* says, and keep its `journal` last.

        What differs is written and nothing else; text and tags of people stay.  A model or version that is not there
        is passed over.
        """
        ...


# -- running models ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """A version that should run in a place: `place` is an endpoint (`environment/model`) or a scratch place."""

    place: str
    model: str
    version: int
    digest: str
    artifact: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: str = ""

    @property
    def id(self) -> str:
        """Name this unit; equal units are the same process."""
        return f"{self.place}@{self.version}"


@dataclass(frozen=True)
class Instance:
    """A unit that was started.  `alive` says whether its process lives, not whether it answers."""

    id: str
    place: str
    model: str
    version: int
    digest: str
    address: str
    alive: bool
    detail: str = ""


class Runtime(Protocol):
    """Starts, sees and stops models in a place."""

    def start(self, unit: Unit, still: Still = always) -> Instance:
        """Start *unit* unless it lives already; returns before it is ready.  Raises `RuntimeFailure`."""
        ...

    def instances(self, place: str = "") -> list[Instance]:
        """Return what was started in *place* (everywhere when empty) and not stopped, dead ones included."""
        ...

    def stop(self, instance: str, still: Still = always) -> None:
        """Drain and stop the instance named *instance*; one that is not there is already stopped."""
        ...

    def log(self, instance: str, lines: int = 50) -> str:
        """Return the newest *lines* that the instance printed, also after it died."""
        ...


@dataclass(frozen=True)
class Scores:
    """An answer of a model: one score per row, in order; of scores that are lists, `names` says of what."""

    scores: tuple[Any, ...]
    model: str
    version: str
    prediction_id: str = ""
    names: tuple[Any, ...] = ()


class Scoring(Protocol):
    """Talks the model contract to an address."""

    def ready(self, address: str, timeout: float = 2.0) -> Mapping[str, Any]:
        """Return what the readiness probe answered; raises `NotReady` with the reason."""
        ...

    def predict(self, address: str, rows: Sequence[Mapping[str, Any]], timeout: float = 30.0) -> Scores:
        """Score *rows*; raises `RowsRefused` with the model's own message when it says that they are bad.

        Raises `CannotTell` when there are no scores for any other reason.
        """
        ...


# -- traffic -----------------------------------------------------------------------------------------------------------


class Router(Protocol):
    """Splits the traffic of an endpoint (`environment/model`) between versions."""

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        """Put *routing* in force and return once requests are seen to be served by it.

        *addresses* has the URL of every version in the routing.  The same routing and addresses again change nothing.
        Raises `RouterError` when it was not seen in time, `ConfigurationError` for what it cannot do.
        """
        ...

    def read(self, endpoint: str) -> Routing | None:
        """Return the routing that the proxy in front of users serves now; None when it has no such endpoint."""
        ...

    def abilities(self) -> Abilities:
        """Say what this traffic layer can do."""
        ...

    def url(self, endpoint: str) -> str:
        """Return the stable public address of *endpoint*."""
        ...


class Metrics(Protocol):
    """Counts of what each version answered, seen from the gateway."""

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """Return cumulative counters per version of *endpoint*, by assignment; raises `MetricsError`.

        A version that is routed but got nothing yet has zeros; one that is not known is missing.
        """
        ...


# -- predictions and their truth ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Label:
    """The truth for one prediction; None takes back the one that was told, which needs an `Amendment`."""

    prediction: str
    value: Any


@dataclass(frozen=True)
class Amendment:
    """Who changes labels that were told already, why, and when (ISO 8601)."""

    by: str
    why: str
    at: str


@dataclass(frozen=True)
class Labelled:
    """A prediction and what was told of its truth: one entry of a log that only grows.

    `revision` is the routing under which it was served; `leg` is how it got there: `main`, `fallback` or `shadow`, and
    only `main` is evidence about the version.  `by` is who told this truth.  Where one was told before, `first` is the
    cursor of the entry with which that began, `before` what was true until now, and `why` the reason of who changed it;
    else `first` is 0.  A `value` (or `before`) of None is no truth: it was withdrawn.
    """

    cursor: int
    prediction: str
    model: str
    version: int
    revision: str
    leg: str
    score: Any
    value: Any
    first: int = 0
    before: Any = None
    by: str = ""
    why: str = ""


@dataclass(frozen=True)
class Refusal:
    """A label that was not kept: its place in the batch (from 0), its prediction's id, why, and what to do."""

    index: int
    prediction: str
    why: str
    help: str = ""


@dataclass(frozen=True)
class Receipt:
    """What became of labels, how many of each.

    `joined` now, `waiting` for a prediction not seen yet, `again` known already; `corrected` and `withdrawn` by an
    `Amendment`; `refused` are those that were not kept.
    """

    joined: int = 0
    waiting: int = 0
    again: int = 0
    corrected: int = 0
    withdrawn: int = 0
    refused: tuple[Refusal, ...] = ()


class Predictions(Protocol):
    """The prediction log of an environment, and the labels that follow it."""

    def label(
        self, endpoint: str, labels: Sequence[Label], amendment: Amendment | None = None, *, by: str = ""
    ) -> Receipt:
        """Attach truths, told *by* somebody, to predictions: a bad one is refused and keeps no other one out.

        A truth that differs from the one before it, or takes it back, is refused without an *amendment*; with one the
        old truth is kept beside it.  The same batch again changes nothing.
        """
        ...

    def labelled(self, endpoint: str, after: int = 0, limit: int = 100_000) -> list[Labelled]:
        """Return what was told of answers, in the order in which it met them, with a cursor above *after*."""
        ...

    def scores(self, endpoint: str, predictions: Sequence[str]) -> Mapping[str, Any]:
        """Return the score of each of *predictions* that was served, by its id."""
        ...

    def counts(self, endpoint: str) -> Mapping[str, int]:
        """Return how many `predictions`, `labelled` ones and `waiting` labels there are."""
        ...


# -- the user's project ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChildResult:
    """What user code handed back from its child process: plain JSON values, and what it printed."""

    value: Mapping[str, Any]
    output: str


class Project(Protocol):
    """Runs the user's code, never in this process."""

    def call(self, command: str, arguments: Mapping[str, Any], *, budget: float, memory: int = 0) -> ChildResult:
        """Run one of the child's commands (see `modelcd.project.child`).

        Raises `ProjectError` for a mistake in the project, `ChildError` when the code raised, ended or overran
        *budget* seconds or *memory* MB.
        """
        ...


@dataclass(frozen=True)
class Unjudged:
    """A pair that the user's function did not judge: what it raised or returned, and what to do."""

    why: str
    help: str = ""


class Successes(Protocol):
    """Asks the user's own function what an answer was worth, given the truth: yes or no, or a number."""

    def judge(self, snapshot: Path, guard: str, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Judge (score, label) *pairs* by the guard named *guard* in the project *snapshot*; raises `ChildError`.

        For each pair True or False, or for a guard of numbers one within its bounds; or `Unjudged`, where the function
        raised or returned anything else.
        """
        ...


class Notifier(Protocol):
    """Tells people."""

    def tell(self, subject: str, text: str) -> None:
        """Announce something worth knowing; never raises for a message that could not be delivered."""
        ...


class Clock(Protocol):
    """Time, so that nobody below the steps asks for it."""

    def now(self) -> datetime:
        """Return the present time in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

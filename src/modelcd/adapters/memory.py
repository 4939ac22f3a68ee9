"""Every port that remembers or runs something, in this process: for tests, examples and trying things out.

They keep the contracts of the real adapters, are safe between threads and touch neither disk nor network; what they
hold ends with the process.  A model is a function from rows to scores, known by the digest of its artifact.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelcd.adapters.sealing import sealed
from modelcd.adapters.truths import around, settled
from modelcd.domain.card import Card
from modelcd.domain.labels import nameless
from modelcd.domain.records import Entry, Head, Record
from modelcd.domain.versions import ModelVersion
from modelcd.errors import Busy, CannotTell, Conflict, NotReady, RowsRefused, RuntimeFailure, UnknownName
from modelcd.ports import Amendment, Build, Instance, Label, Labelled, Receipt, Scores, Still, Unit, always

Behaviour = Callable[[Sequence[Mapping[str, Any]]], Sequence[Any]]
"""What a model does: one score per row, in order."""

START = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryClock:
    """A `Clock` that stands still until somebody sleeps."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the present time in UTC."""
        with self._lock:
            return self._now

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass at once."""
        with self._lock:
            self._now += timedelta(seconds=max(0.0, seconds))


class MemoryNotifier:
    """A `Notifier` that remembers what it told, as (subject, text), in `told`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def tell(self, subject: str, text: str) -> None:
        """Remember what should be announced."""
        self.told.append((subject, text))


class MemoryJournal:
    """A `Journal` in this process."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = {}
        self._heads: dict[str, Head] = {}
        self._holds: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def read(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of *stream* numbered above *after*, in order."""
        with self._lock:
            return self._records.get(stream, [])[max(0, after) :]

    def append(self, stream: str, expected: int, entries: Sequence[Entry]) -> list[Record]:
        """Append *entries* behind record number *expected*, all or none; raises `Conflict`."""
        with self._lock:
            known = self._records.get(stream, [])
            if len(known) != expected:
                raise Conflict(
                    f"{stream}: wanted to write behind record {expected}, found record {len(known)}",
                    help="somebody else wrote meanwhile: read again, decide again",
                )
            records = sealed(stream, expected, known[-1].digest if known else "", entries)
            if records:
                self._records.setdefault(stream, []).extend(records)
                self._heads[stream] = self._heads.get(stream, Head(0, "")).behind(records)
            return records

    def heads(self, prefix: str = "") -> dict[str, Head]:
        """Return the ends of the streams whose names begin with *prefix*, in the order of their names."""
        with self._lock:
            return {stream: self._heads[stream] for stream in sorted(self._heads) if stream.startswith(prefix)}

    def exclusive(self, stream: str, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold *stream* among the threads of this process; raises `Busy`."""
        return self._held(stream, wait)

    @contextlib.contextmanager
    def _held(self, stream: str, wait: float) -> Iterator[None]:
        with self._lock:
            hold = self._holds.setdefault(stream, threading.Lock())
        if not hold.acquire(timeout=max(0.0, wait)):
            raise Busy(f"{stream} is held by another thread", help="wait until it is done, then try again")
        try:
            yield
        finally:
            hold.release()


class MemoryRegistry:
    """A `Registry` in this process; artifacts stay where they were built, unchecked."""

    def __init__(self, clock: MemoryClock | None = None) -> None:
        self._clock = clock or MemoryClock()
        self._versions: dict[str, list[ModelVersion]] = {}
        self._artifacts: dict[tuple[str, int], Path] = {}
        self._aliases: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def add(self, build: Build) -> ModelVersion:
        """Register *build*; the same training digest again returns the version that is there."""
        with self._lock:
            known = self._versions.setdefault(build.model, [])
            for version in known:
                if version.lineage.training == build.lineage.training:
                    return self._named(version)
            version = ModelVersion(
                model=build.model,
                number=len(known) + 1,
                digest=build.digest,
                lineage=build.lineage,
                created=self._clock.now().isoformat(),
            )
            known.append(version)
            self._artifacts[build.model, version.number] = build.artifact
            return version

    def versions(self, model: str) -> list[ModelVersion]:
        """Return the versions of *model*, oldest first, aliases included."""
        with self._lock:
            return [self._named(version) for version in self._versions.get(model, [])]

    def fetch(self, model: str, number: int) -> Path:
        """Return the folder that version *number* was built in."""
        with self._lock:
            self._require(model, number)
            return self._artifacts[model, number]

    def point(self, model: str, alias: str, number: int | None, still: Still = always) -> None:
        """Let *alias* name version *number*, or nothing."""
        still()
        with self._lock:
            if number is None:
                self._aliases.get(model, {}).pop(alias, None)
                return
            self._require(model, number)
            self._aliases.setdefault(model, {})[alias] = number

    def _named(self, version: ModelVersion) -> ModelVersion:
        aliases = self._aliases.get(version.model, {})
        return replace(version, aliases=tuple(sorted(a for a, number in aliases.items() if number == version.number)))

    def _require(self, model: str, number: int) -> None:
        if (model, number) not in self._artifacts:
            known = [str(version.number) for version in self._versions.get(model, [])]
            raise UnknownName(f"version of {model}", str(number), known)


class MemoryCatalog:
    """A `Catalog` in this process: `cards` has the newest card of each model."""

    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}

    def shown(self, model: str) -> str:
        """Return which records the card of *model* was made from; empty for none."""
        return self.cards[model].journal if model in self.cards else ""

    def show(self, card: Card) -> None:
        """Keep *card*."""
        self.cards[card.model] = card


class MemoryRuntime:
    """A `Runtime` whose models are functions: *models* maps the digest of an artifact to what it does."""

    def __init__(self, models: Mapping[str, Behaviour]) -> None:
        self._models = dict(models)
        self._instances: dict[str, Instance] = {}
        self._logs: dict[str, list[str]] = {}
        self._unready: dict[str, str] = {}
        self._starts = 0
        self._lock = threading.Lock()

    def start(self, unit: Unit, still: Still = always) -> Instance:
        """Start *unit* unless it lives already; raises `RuntimeFailure`."""
        still()
        with self._lock:
            there = self._instances.get(unit.id)
            if there is not None and there.alive:
                if there.digest != unit.digest:
                    raise RuntimeFailure(
                        f"{unit.id} runs {there.digest}, not {unit.digest}",
                        help="stop the one that runs; a version's artifact never changes",
                    )
                return there
            if unit.digest not in self._models:
                raise RuntimeFailure(f"{unit.id}: no model has the digest {unit.digest}", help="give it to the runtime")
            self._starts += 1
            instance = Instance(
                id=unit.id,
                place=unit.place,
                model=unit.model,
                version=unit.version,
                digest=unit.digest,
                address=f"memory://{unit.id}/{self._starts}",  # a new one each time, as processes have
                alive=True,
            )
            self._instances[unit.id] = instance
            self._logs.setdefault(unit.id, []).append(f"started {unit.model} {unit.version}")
            return instance

    def instances(self, place: str = "") -> list[Instance]:
        """Return what was started in *place* (everywhere when empty) and not stopped, dead ones included."""
        with self._lock:
            return sorted((i for i in self._instances.values() if place in ("", i.place)), key=lambda i: i.id)

    def stop(self, instance: str, still: Still = always) -> None:
        """Stop the instance named *instance*; one that is not there is already stopped."""
        still()
        with self._lock:
            if self._instances.pop(instance, None) is not None:
                self._logs[instance].append("stopped")
                self._unready.pop(instance, None)

    def log(self, instance: str, lines: int = 50) -> str:
        """Return the newest *lines* of what became of the instance."""
        with self._lock:
            return "\n".join(self._logs.get(instance, [])[-lines:] if lines > 0 else [])

    def kill(self, instance: str, detail: str = "killed") -> None:
        """Let the instance die, as a crash does: it is still listed, and no longer alive."""
        with self._lock:
            self._instances[instance] = replace(self._instances[instance], alive=False, detail=detail)
            self._logs[instance].append("killed")

    def unready(self, instance: str, reason: str = "warming up") -> None:
        """Let the readiness probe of the instance answer *reason*, now or once it is started; empty: ready again."""
        with self._lock:
            self._unready[instance] = reason

    def answering(self, address: str) -> tuple[Instance, Behaviour]:
        """Return who listens at *address* and what it does; raises `NotReady` with the reason when it does not."""
        with self._lock:
            instance = next((i for i in self._instances.values() if i.address == address), None)
            if instance is None or not instance.alive:
                raise NotReady(f"nobody listens at {address}", help="start the instance")
            if reason := self._unready.get(instance.id, ""):
                raise NotReady(f"{instance.id} is not ready: {reason}", help="wait, or read its log")
            return instance, self._models[instance.digest]


class MemoryScoring:
    """A `Scoring` that asks the models of a `MemoryRuntime`; *behind* says which of them answers at a gateway's URL."""

    def __init__(self, runtime: MemoryRuntime, behind: Callable[[str], str] = lambda address: address) -> None:
        self._runtime = runtime
        self._behind = behind
        self._answers = 0
        self._lock = threading.Lock()

    def ready(self, address: str, timeout: float = 2.0) -> Mapping[str, Any]:
        """Return what the readiness probe answered; raises `NotReady` with the reason."""
        instance, _ = self._runtime.answering(self._behind(address))
        return {"model": instance.model, "version": str(instance.version)}

    def predict(self, address: str, rows: Sequence[Mapping[str, Any]], timeout: float = 30.0) -> Scores:
        """Score *rows*; a column that the model misses is `RowsRefused`, what else it raises `CannotTell`."""
        instance, behaviour = self._runtime.answering(self._behind(address))
        try:
            scores = tuple(behaviour(rows))
        except KeyError as error:
            raise RowsRefused(f"{instance.id}: a row lacks {error}") from error
        except Exception as error:
            raise CannotTell(f"{instance.id}: {error}", help="see what the model was sent") from error
        if len(scores) != len(rows):
            raise CannotTell(f"{instance.id} gave {len(scores)} scores for {len(rows)} rows")
        with self._lock:
            self._answers += 1
            return Scores(scores, instance.model, str(instance.version), prediction_id=f"{self._answers:032x}")


@dataclass(frozen=True)
class Prediction:
    """One row that was scored, as a model server logs it."""

    id: str
    model: str
    version: int
    revision: str
    score: Any
    leg: str = "main"


class MemoryPredictions:
    """A `Predictions` in this process; `log` is what a model server's spool is elsewhere."""

    def __init__(self) -> None:
        self._predictions: dict[tuple[str, str], Prediction] = {}
        self._labels: dict[tuple[str, str], Any] = {}
        self._by: dict[tuple[str, str], str] = {}
        self._first: dict[tuple[str, str], int] = {}
        self._told: dict[str, list[Labelled]] = {}
        self._cursor = 0
        self._lock = threading.Lock()

    def log(self, endpoint: str, predictions: Sequence[Prediction]) -> None:
        """Remember *predictions* of *endpoint*; an id that is known already is not counted again."""
        with self._lock:
            for prediction in predictions:
                key = endpoint, prediction.id
                if key not in self._predictions:
                    self._predictions[key] = prediction
                    if self._labels.get(key) is not None:
                        self._tell(key)

    def label(
        self, endpoint: str, labels: Sequence[Label], amendment: Amendment | None = None, *, by: str = ""
    ) -> Receipt:
        """Attach truths to predictions, each by itself; see `modelcd.ports.Predictions.label`."""
        with self._lock:
            ids = [label.prediction for label in labels if not nameless(label.prediction)]
            known = {id: self._labels[endpoint, id] for id in ids if (endpoint, id) in self._labels}
            served = {id for id in around(ids) if (endpoint, id) in self._predictions}
            found = settled(labels, known, served, amendment)
            joined = 0
            for id, value in found.new.items():
                self._labels[endpoint, id], self._by[endpoint, id] = value, by
                joined += self._tell((endpoint, id))
            for id, value in found.changed.items():
                assert amendment is not None, "nothing changes without one"
                self._labels[endpoint, id], self._by[endpoint, id] = value, amendment.by
                self._tell((endpoint, id), known[id], amendment.why)
            return found.receipt(joined)

    def labelled(self, endpoint: str, after: int = 0, limit: int = 100_000) -> list[Labelled]:
        """Return what was told of answers, in the order in which it met them, with a cursor above *after*."""
        with self._lock:
            told = self._told.get(endpoint, [])
            first = bisect_right(told, after, key=lambda entry: entry.cursor)
            return told[first : first + limit]

    def scores(self, endpoint: str, predictions: Sequence[str]) -> Mapping[str, Any]:
        """Return the score of each of *predictions* that was served, by its id."""
        with self._lock:
            keys = ((endpoint, id) for id in predictions)
            return {key[1]: self._predictions[key].score for key in keys if key in self._predictions}

    def counts(self, endpoint: str) -> Mapping[str, int]:
        """Return how many `predictions`, `labelled`, `waiting` labels and `malformed` lines (none) there are."""
        with self._lock:
            predictions = sum(1 for known, _ in self._predictions if known == endpoint)
            labels = [key for key, value in self._labels.items() if key[0] == endpoint and value is not None]
            joined = sum(key in self._first for key in labels)
        return {"predictions": predictions, "labelled": joined, "waiting": len(labels) - joined, "malformed": 0}

    def _tell(self, key: tuple[str, str], before: Any = None, why: str = "") -> int:
        """Enter what is true of a prediction now, if it was served; returns how many entries that made."""
        found = self._predictions.get(key)
        if found is None:
            return 0
        self._cursor += 1
        first = self._first.get(key, 0)
        changed = {"first": first, "before": before, "why": why} if first else {}
        served = (found.model, found.version, found.revision, found.leg, found.score)
        entry = Labelled(self._cursor, found.id, *served, self._labels[key], by=self._by[key], **changed)
        self._first.setdefault(key, self._cursor)
        self._told.setdefault(key[0], []).append(entry)
        return 1

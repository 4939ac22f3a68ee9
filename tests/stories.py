"""What kill matrix and chaos tell, over any bound environments: a scripted project, stories, their beginnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelcd.adapters.memory import MemoryCatalog, MemoryNotifier, Prediction
from modelcd.adapters.memory_project import MemoryProject
from modelcd.artifact import Column, Manifest, write_manifest
from modelcd.domain.delivery import Builds, fold_builds, stream_of
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import Acceptance, Canary, Guard, GuardKind
from modelcd.domain.release import Ask
from modelcd.domain.routing import Abilities, Routing
from modelcd.environment import Environment
from modelcd.errors import Busy, ModelcdError, RouterError
from modelcd.flows import deliver as flows
from modelcd.flows._effects import pages
from modelcd.ports import Catalog, Label, Notifier, Project, Router, Still, always
from modelcd.steps.announce import Announcer
from modelcd.steps.build import Contract, Walk, over_http
from modelcd.steps.demote import demote
from modelcd.steps.publish import CALM, Publisher
from modelcd.steps.reconcile import Reconciler
from modelcd.steps.release import ask, drive, open_release
from modelcd.steps.tick import tick, tick_on
from modelcd.steps.watch import Watch
from modelcd.testing.faults import AFTER, Effect, Faults, Killed, Moment
from modelcd.testing.kills import Ran, Seen, journal_troubles

MODEL = "m"
ENVIRONMENTS = ("staging", "production")
STREAM = f"production/{MODEL}"
POLICY = Canary(shares=(50,), guards=(Guard("errors", GuardKind.ERRORS, margin=0.4),), keep_warm=0.0)
LABELLED = replace(POLICY, guards=(Guard("success", GuardKind.SUCCESS, margin=0.4),))
ROWS = [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]
LABELS = ("p1", "p2", "p3")
LATE = "late labels take a promoted version out"
TAKEN_BACK = "what was taken back leaves staging"
PASSED = {"verdict": "pass", "reason": "as it should be", "evidence": {}}

Log = Callable[[Sequence[Prediction]], None]
"""Keeps predictions where a model's server keeps those of production."""

KNOWN: dict[str, str] = {}
"""What is known to be broken on every backend (see `KillContract.KNOWN`)."""

ACCEPTED = Moment(Effect(f"Journal.append builds/{MODEL}: accepted"), AFTER)


def train(folder: Path, data: str) -> None:
    """Write the artifact that *data* lead to."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").write_text(data)
    write_manifest(folder, Manifest(MODEL, "object", "model", "predict", (Column("x", "double"),)))


def project(data: str) -> Project:
    """Return a project whose code never changes and whose data are *data*."""

    def trained(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        train(Path(arguments["out"]), data)
        return {"toolchain": {}, "seconds": 0.0, "source": {"snapshot": "sha256:code"}}

    spec = {
        "name": MODEL,
        "gates": [],
        "training_code": "code",
        "parameters": {},
        "rollouts": {"*": to_plain(POLICY)},
        "policy_digest": "",
        "acceptance": to_plain(Acceptance(tests="acceptance", load_requests=4, load_connections=1)),
        "budgets": {},
        "retrain": {"cron": "0 5 * * *", "timezone": "UTC"},
    }
    prepared = {
        "data": "",
        "rows": 9,
        "train_rows": 6,
        "holdout_rows": 3,
        "raw_rows": 9,
        "dropped": 0,
        "columns": ["x"],
    }
    answers: Mapping[str, Mapping[str, Any]] = {
        "describe": spec,
        "data": {"files": [data], "digest": data},
        "prepare": {**prepared, "columns": ["x"]},
        "expect": PASSED,
        "tests": PASSED,
        "rows": {"rows": ROWS},
        "gates": {"metrics": {"auc": 0.9}, "findings": [{"name": "auc", **PASSED}]},
        "snapshot": {"snapshot": "sha256:code"},
        "accept": PASSED,
    }
    commands = {name: (lambda _, answer=answer: answer) for name, answer in answers.items()}
    return MemoryProject({**commands, "train": trained})


@dataclass(frozen=True)
class Stage:
    """A `Place` over the environments that *bind* returns; with *faults* every port of its driver is watched."""

    bind: Callable[[str], Environment]
    folder: Path
    data: str = "d1"
    interpreter: str = ""
    contract: Contract = over_http
    faults: Faults | None = None
    notifier: Notifier = field(default_factory=MemoryNotifier)
    catalog: Catalog = field(default_factory=MemoryCatalog)
    order: tuple[str, ...] = ("staging", "production")

    @property
    def names(self) -> tuple[str, ...]:
        """The environments, in the order of a promotion."""
        return self.order

    def environment(self, name: str) -> Environment:
        """Return the environment *name*."""
        return self.faults.environment(self.bind(name)) if self.faults else self.bind(name)

    def walk(self, project_at: Path, actor: str, delivery: str) -> Walk:
        """Return a delivery of the scripted project."""
        scripted = project(self.data)
        return Walk(
            env=self.environment(self.order[-1]),
            project=self.faults.port("Project", scripted) if self.faults else scripted,
            path=project_at,
            folder=self.folder / "builds" / delivery,
            snapshots=self.folder / "snapshots",
            interpreter=self.interpreter,
            actor=actor,
            delivery=delivery,
            contract=self.contract,
        )

    def revive(self) -> None:
        """Leave it to others."""


class Refusing:
    """A `Router` that refuses the third write into production; *nth* says which one it is."""

    def __init__(self, router: Router, nth: Callable[[], int]) -> None:
        self._router, self._nth = router, nth

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        if endpoint == STREAM and self._nth() == 3:
            raise RouterError("the gateway is away")
        self._router.write(endpoint, routing, addresses, still)

    def read(self, endpoint: str) -> Routing | None:
        return self._router.read(endpoint)

    def abilities(self) -> Abilities:
        return self._router.abilities()

    def url(self, endpoint: str) -> str:
        return self._router.url(endpoint)


def right(score: Any, label: Any) -> bool:
    """Judge the scores of the scripted project, as its function of success."""
    return bool(score == label)


def serve(stage: Stage, log: Log, revision: str, *, wrong: bool) -> None:
    """Let both versions have answered requests under *revision* and the truth of them come; 2 was *wrong* or right."""
    kind = "wrong" if wrong else "right"
    said = [
        Prediction(f"{kind}-{version}-{k}", MODEL, version, revision, 0.0 if wrong and version == 2 else 1.0)
        for version in (1, 2)
        for k in range(60)
    ]
    log(said)
    stage.environment("production").predictions.label(STREAM, [Label(one.id, 1.0) for one in said])


def tell(story: str, stage: Stage) -> None:
    """Run the command of *story*."""
    match story:
        case "deliver the first version":
            flows.deliver_in(replace(stage, data="d1"), stage.folder, "anna")
        case "deliver":
            flows.deliver_in(replace(stage, data="d2"), stage.folder, "anna")
        case "retrain":
            flows.retrain_in(replace(stage, data="d2"), MODEL, "anna")
        case "promote" | "promote in trouble":
            flows.promote_in(stage, MODEL, 2, "production", "anna")
        case "roll back" | "roll back what is under way":
            flows.rollback_in(stage, MODEL, "production", "anna")
        case "repair what died":
            tick(stage.environment("production"), Watch(STREAM), actor="reconciler")
        case "late labels take a promoted version out":
            env, watch = stage.environment("production"), Watch(STREAM)
            tick_on(env, watch, actor="reconciler")
            drive(env, watch, actor="reconciler")
        case "what was taken back leaves staging":
            env, later = stage.environment("staging"), stage.environment("production")
            watch, known = Watch(env.stream(MODEL)), Watch(STREAM)
            watch.refresh(env), known.refresh(later)
            demote(env, later, watch, known, "reconciler")
            tick_on(env, watch, actor="reconciler")
            drive(env, watch, actor="reconciler")
        case "tell people":
            env = stage.environment("production")
            notifier = stage.faults.port("Notifier", stage.notifier) if stage.faults else stage.notifier
            announcer = Announcer(env.journal, notifier, env.clock)
            announcer.round()
            announcer.round()
            catalog = stage.faults.port("Catalog", stage.catalog) if stage.faults else stage.catalog
            publisher = Publisher(env.journal, catalog, ENVIRONMENTS, env.clock)
            publisher.round()
            env.clock.sleep(CALM)
            publisher.round()
        case "give labels":
            env = stage.environment("production")
            env.predictions.label(STREAM, [Label(key, True) for key in LABELS])
        case _:
            raise AssertionError(f"nobody knows the story {story!r}")


def driven(story: str, stage: Stage, hook: Callable[[Moment, Faults], None]) -> Ran:
    """Run *story* by a driver whose *hook* is told of every moment."""
    moments: list[Moment] = []

    def note(moment: Moment) -> None:
        moments.append(moment)
        hook(moment, faults)

    faults = Faults(note)
    without = pages.set(False)
    try:
        tell(story, replace(stage, faults=faults))
    except Killed:
        return Ran(died=True)
    except ModelcdError as error:
        return Ran(refusal=error.message, busy=isinstance(error, Busy), moments=tuple(moments))
    finally:
        pages.reset(without)
    return Ran(died=faults.dead, moments=tuple(moments))


def dying(at: Moment | None) -> Callable[[Moment, Faults], None]:
    """Return a hook by which a driver in this process dies *at* a moment."""
    return lambda moment, faults: faults.kill() if moment == at else None


def begin(story: str, stage: Stage, reconcile: Callable[[], None], crash: Callable[[str], None], log: Log) -> None:
    """Bring the world to the moment before *story*; *crash* lets an instance die, *log* keeps predictions."""
    if story == "deliver the first version":
        return
    for tale in ("deliver the first version", *(["deliver"] if story in ("roll back", TAKEN_BACK) else [])):
        assert driven(tale, stage, dying(None)).refusal == ""
        reconcile()
    if story.startswith("promote") or story in ("roll back what is under way", LATE):
        assert driven("deliver", stage, dying(ACCEPTED)).died
        reconcile()
    if story == LATE:
        promote_by_labels(stage, log)
        reconcile()
        ladder = Watch(STREAM).refresh(stage.environment("production")).releases[-1].rungs
        serve(stage, log, next(iter(ladder)), wrong=True)
    if story == TAKEN_BACK:
        assert driven("roll back", stage, dying(None)).refusal == ""
    if story in ("repair what died", "tell people"):
        crash(f"{STREAM}@1")
    if story == "tell people":
        env = stage.environment("production")
        Announcer(env.journal, stage.notifier, env.clock).round()
        tick(env, Watch(STREAM), actor="reconciler")
    if story == "roll back what is under way":
        env = stage.environment("production")
        watch = open_release(env, flows.candidate_of(env, MODEL, 2), release="r2", actor="anna", reason="")
        while watch.endpoint.releases[-1].share < 50:
            tick(env, watch, actor="anna")
            env.clock.sleep(0.05)
        ask(env, MODEL, Ask.HOLD, actor="anna")


def promote_by_labels(stage: Stage, log: Log) -> None:
    """Promote version 2 on labels that say it is as good."""
    env = stage.environment("production")
    candidate = replace(flows.candidate_of(env, MODEL, 2), policy=LABELLED)
    watch, known = open_release(env, candidate, release="r2", actor="anna", reason=""), False
    while (release := watch.endpoint.releases[-1]).ending is None:
        tick(env, watch, actor="anna")
        if release.rungs and not known:
            serve(stage, log, next(iter(release.rungs)), wrong=False)
            known = True
        env.clock.sleep(0.5)
    assert watch.endpoint.champion == 2


def rounds(environments: Mapping[str, Environment], *, most: int = 400, quiet: int = 6) -> None:
    """Let a reconciler go round, a second of its clock between, until nothing was written for *quiet* rounds."""
    env = next(iter(environments.values()))
    said: list[str] = []
    reconciler, still, before = Reconciler(dict(environments), said.append), 0, -1
    for _ in range(most):
        reconciler.round()
        now = sum(len(env.journal.read(stream)) for stream in env.journal.heads())
        still, before = still + 1 if now == before else 0, now
        if still >= quiet:
            return
        env.clock.sleep(1.0)
    raise AssertionError(f"the reconciler does not come to rest: {said}")


def look(environments: Mapping[str, Environment], answers: Callable[[str], Sequence[str]]) -> Seen:
    """Look at the world from outside; *answers* says who answered some requests of users to an endpoint."""
    endpoints, opened, aliases = {}, [], {}
    production = environments["production"]
    instances = production.runtime.instances()
    for name, env in environments.items():
        stream = env.stream(MODEL)
        endpoint, routing = Watch(stream).refresh(env), env.router.read(stream)
        if endpoint.open is not None:
            held = ", held" if endpoint.held else ""
            opened.append(f"a release of {endpoint.open.version} into {name} is open{held}")
        endpoints[stream] = {
            "champion": endpoint.champion,
            "shares": {arm.version: arm.share for arm in routing.arms if arm.share > 0} if routing else None,
            "answers": sorted(set(answers(stream))) if routing else [],
            "runs": sorted((i.version, i.alive) for i in instances if i.place == stream),
        }
    builds = fold_builds(Builds(stream_of(MODEL)), production.journal.read(stream_of(MODEL)))
    if builds.open is not None:
        opened.append("a delivery is open")
    versions = production.registry.versions(MODEL)
    for version in versions:
        aliases.update(dict.fromkeys(version.aliases, version.number))
    return Seen(
        endpoints=endpoints,
        versions=tuple(f"{v.number} from {v.lineage.data}" for v in versions),
        aliases=aliases,
        labels=production.predictions.counts(STREAM)["waiting"],
        elsewhere=tuple(f"{i.id} runs" for i in instances if i.place not in endpoints),
        open=tuple(opened),
        troubles=journal_troubles(production.journal),
    )

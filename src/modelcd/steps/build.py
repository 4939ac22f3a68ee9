"""From a project to a proven version: each step is a function of a `Walk`, and ends in a record of the builds' stream.

A step that says no returns a finding that is not a PASS; one that could not find out raises.  The user's code runs in
children of the project's own environment and hands back plain data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from modelcd.artifact import digest_of, read_manifest
from modelcd.domain import promotion
from modelcd.domain.delivery import Builds, Delivery, fold_builds, stream_of
from modelcd.domain.plain import from_plain
from modelcd.domain.policy import ANY_OTHER, AT_ONCE, READING, Acceptance, Budgets, Canary, for_environment
from modelcd.domain.records import Entry
from modelcd.domain.telling import counted
from modelcd.domain.verdict import Finding, Verdict, finding_plain, worst
from modelcd.domain.versions import CLEAN, DIRTY, Lineage, ModelVersion, brief
from modelcd.environment import Environment
from modelcd.errors import CannotTell, ProjectError, RegistryError, Rejected, UnknownName
from modelcd.ports import Build, Instance, Project, Unit
from modelcd.snapshot import place_of
from modelcd.steps import accept, validate
from modelcd.steps.release import Candidate
from modelcd.steps.watch import Watch

Contract = Callable[[str, Sequence[Mapping[str, Any]]], Sequence[Finding]]
"""Asks an address for each point of the model contract, with some good rows."""


def over_http(url: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
    """Ask *url* for the contract as every server in any language keeps it."""
    from modelcd.serving.contract import check_contract

    return check_contract(url, rows)


@dataclass
class Walk:
    """One delivery on its way: what was found so far, and where it is recorded.

    *contract* asks a staged version; *foresee* begins what a new version will need, and is called while others work.
    """

    env: Environment
    project: Project
    path: Path
    folder: Path
    snapshots: Path
    interpreter: str
    actor: str
    delivery: str
    builds: Builds = field(init=False)
    spec: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    prepared: Mapping[str, Any] = field(default_factory=dict)
    version: ModelVersion | None = None
    artifact: Path | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    contract: Contract = over_http
    foresee: Callable[[], None] = lambda: None

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.spec["name"])

    @property
    def budgets(self) -> Budgets:
        """How long each part may take."""
        return from_plain(Budgets, self.spec.get("budgets", {}))

    @property
    def acceptance(self) -> Acceptance:
        """What the project wants to be shown before its version gets traffic."""
        return from_plain(Acceptance, self.spec["acceptance"])

    def call(self, command: str, budget: float, **arguments: Any) -> Mapping[str, Any]:
        """Run one command of the project's child."""
        return self.project.call(command, arguments, budget=budget, memory=self.budgets.memory).value

    def record(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write one record into the builds' stream."""
        entry = Entry(kind, self.env.clock.now().isoformat(), self.actor, self.delivery, body)
        self.builds = fold_builds(self.builds, self.env.journal.append(self.builds.stream, self.builds.seq, [entry]))


def describe(walk: Walk, known: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Read pipeline.py in a child, unless what it says is *known*: what is delivered, and how."""
    walk.spec = known or walk.project.call("describe", {}, budget=READING).value
    walk.builds = read_builds(walk.env, walk.model)
    return walk.spec


def read_builds(env: Environment, model: str) -> Builds:
    """Return what is recorded of the builds of *model*."""
    stream = stream_of(model)
    return fold_builds(Builds(stream), env.journal.read(stream))


def open_delivery(walk: Walk, *, reason: str, trigger: str) -> None:
    """Record that a delivery begins; one that its driver left behind is closed as abandoned first."""
    end_scratch(walk.env, walk.model)
    left = walk.builds.open
    if left is not None:
        why = f"its driver ended without a word; delivery {walk.delivery} took over"
        entry = Entry(
            "closed", walk.env.clock.now().isoformat(), walk.actor, left.id, {"ending": "abandoned", "why": why}
        )
        records = walk.env.journal.append(walk.builds.stream, walk.builds.seq, [entry])
        walk.builds = fold_builds(walk.builds, records)
    about = str(walk.spec.get("about", ""))
    walk.record("opened", {"reason": reason, "trigger": trigger, "project": str(walk.path), "about": about})


def end_scratch(env: Environment, model: str) -> None:
    """Stop what a delivery that was killed at its gates left running; for whoever holds the builds' stream."""
    for instance in env.runtime.instances(_scratch_place(model)):
        env.runtime.stop(instance.id)


def _scratch_place(model: str) -> str:
    return f"gates/{model}"


def close_delivery(walk: Walk, ending: str, why: str, help: str = "") -> Delivery:
    """Record how the delivery ended, and what the error that ended it, if one did, says to do."""
    walk.record("closed", {"ending": ending, "why": why, **({"help": help} if help else {})})
    return walk.builds.deliveries[-1]


def note(walk: Walk, name: str, finding: Finding, seconds: float) -> None:
    """Record what a step found."""
    body = {
        "name": name,
        "verdict": finding.verdict.value,
        "reason": finding.reason,
        "evidence": dict(finding.evidence),
        "seconds": round(seconds, 3),
    }
    walk.record("step", body)


# -- the steps ---------------------------------------------------------------------------------------------------------


def find_data(walk: Walk, known: Mapping[str, Any] | None = None) -> Finding:
    """See which data are there, by content, unless that is *known*."""
    walk.data = known or walk.call("data", walk.budgets.data, cache=str(walk.folder.parent / "hashes.json"))
    files = walk.data["files"]
    if not files:
        raise ProjectError(
            f"no file matches {walk.spec['data']['pattern']}",
            help="put data there, or change Dataset(...) in pipeline.py",
        )
    return Finding(
        "data",
        Verdict.PASS,
        f"{counted(len(files), 'file')}, digest {walk.data['digest'].removeprefix('sha256:')[:12]}",
        {"files": files},
    )


def known_version(walk: Walk) -> ModelVersion | None:
    """Return the version that was built from this very code, data, parameters and toolchain."""
    training = training_digest(walk)
    for version in walk.env.registry.versions(walk.model):
        if version.lineage.training == training:
            return version
    return None


def training_digest(walk: Walk) -> str:
    """Return the digest of everything that training depends on."""
    import hashlib

    parts = [walk.spec["training_code"], walk.data["digest"]]
    return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prepare_data(walk: Walk) -> Finding:
    """Read the data, let the project prepare them, and keep the newest rows apart as the holdout."""
    walk.folder.mkdir(parents=True, exist_ok=True)
    walk.prepared = walk.call("prepare", walk.budgets.data, out=str(walk.folder / "data"), files=walk.data["files"])
    found = walk.prepared
    text = f"{counted(found['rows'], 'row')}: {found['train_rows']:,} to learn from, {found['holdout_rows']:,} held out"
    if found["dropped"]:
        part = 100 * found["dropped"] / found["raw_rows"]
        text += f"; the project drops {found['dropped']:,} ({part:.1f} %)"
    return Finding("prepare", Verdict.PASS, text, dict(found))


def check_data(walk: Walk) -> Finding:
    """Check the data as they arrived against the project's expectations."""
    return _child_finding("expectations", walk.call("expect", walk.budgets.data, files=walk.data["files"]))


def run_tests(walk: Walk) -> Finding:
    """Run the project's own tests."""
    return _child_finding("tests", walk.call("tests", walk.budgets.tests))


def _child_finding(name: str, plain: Mapping[str, Any]) -> Finding:
    return read_finding({**plain, "name": name})


def train(walk: Walk) -> Finding:
    """Train in a child and register what came out; what was built before is not built again."""
    known = known_version(walk)
    if known is not None:
        walk.reused = True
        _take(walk, known, walk.env.registry.fetch(walk.model, known.number))
        return Finding(
            "train", Verdict.PASS, f"version {known.number} was built from the same inputs; not trained again"
        )
    out = walk.folder / "artifact"
    arguments = {"data": walk.prepared["data"], "out": str(out), "code": walk.spec["training_code"]}
    walk.trained = walk.call("train", walk.budgets.train, **arguments, **_keeping(walk))
    source: Mapping[str, str] = walk.trained["source"]
    lineage = Lineage(
        training=training_digest(walk),
        code=walk.spec["training_code"],
        data=walk.data["digest"],
        parameters=dict(walk.spec["parameters"]),
        toolchain=walk.trained["toolchain"],
        rows=walk.prepared["train_rows"],
        data_from=str(walk.prepared.get("from", "")),
        data_until=str(walk.prepared.get("until", "")),
        **source,
    )
    version = walk.env.registry.add(_build(walk, out, digest_of(out), lineage))
    _take(walk, version, walk.env.registry.fetch(walk.model, version.number))
    told = f"version {version.number} in {walk.trained['seconds']:.1f} s"
    if lineage.commit and lineage.worktree != CLEAN:
        told += f", from {brief(lineage.commit, lineage.worktree)}: {_uncommitted(lineage)}"
    return Finding("train", Verdict.PASS, told, {"digest": version.digest})


def _build(walk: Walk, artifact: Path, digest: str, lineage: Lineage) -> Build:
    known = walk.trained
    return Build(
        walk.model,
        artifact,
        digest,
        lineage,
        by=walk.actor,
        project=str(walk.path),
        began=str(known.get("began", "")),
        seconds=float(known.get("seconds", 0.0)),
        settings=known.get("settings", {}),
        source=f"{walk.path}/{walk.spec.get('data', {}).get('pattern', '')}",
        holdout_rows=int(walk.prepared.get("holdout_rows", 0)),
    )


def _tell_registry(walk: Walk, finding: Finding) -> None:
    """Leave in the registry what the gates found; it is for people, and a registry that is away stops nothing."""
    assert walk.version is not None and walk.artifact is not None, "only a built version is judged"
    metrics = finding.evidence["metrics"] | {
        f"champion/{k}": v for k, v in finding.evidence["champion_metrics"].items()
    }
    build = _build(walk, walk.artifact, walk.version.digest, walk.version.lineage)
    with suppress(RegistryError):
        walk.env.registry.add(replace(build, metrics=metrics, failed=finding.verdict is not Verdict.PASS))


def _keeping(walk: Walk) -> Mapping[str, Any]:
    return {"snapshots": str(walk.snapshots), "files": walk.spec.get("files", {})}


def _uncommitted(lineage: Lineage) -> str:
    if lineage.worktree != DIRTY:
        return lineage.worktree
    return "with changes that are not committed" + ("" if lineage.patch else ", none in what the model is made of")


def _take(walk: Walk, version: ModelVersion, artifact: Path) -> None:
    walk.version, walk.artifact = version, artifact
    body = {
        **asdict(version.lineage),
        "version": version.number,
        "digest": version.digest,
        "artifact": str(artifact),
        "reused": walk.reused,
    }
    for name in ("began", "seconds", "estimator", "settings", "bytes"):
        if name in walk.trained:
            body[name] = walk.trained[name]
    walk.record("built", body)


def check_gates(walk: Walk, champion: Candidate | None) -> Finding:
    """Score the holdout through the real server, champion beside challenger, and check every gate."""
    assert walk.version is not None and walk.artifact is not None, "gates come after training"
    findings = [validate.signature(walk.artifact, Path(champion.artifact) if champion else None)]
    with ExitStack() as servers:
        start = partial(_scratch, walk, servers)
        challenger = start(walk.version.number, walk.version.digest, walk.artifact, walk.interpreter)
        rival = None
        if champion is not None and champion.version != walk.version.number:
            _champion_can_be_asked(walk, champion)
            # A server of its own: the champion has users to answer.
            rival = start(champion.version, champion.digest, Path(champion.artifact), champion.interpreter)
        artifacts = {"challenger": walk.artifact, **({"champion": Path(champion.artifact)} if champion else {})}
        most = validate.rows_at_most(list(artifacts.values()))
        rows = _holdout(walk, walk.artifact, most)
        scores: dict[str, Any] = {"challenger": validate.score(walk.env, challenger, rows, walk.budgets.start)}
        findings.append(validate.pace(walk.env, challenger, rows, walk.acceptance.p99))
        if champion is not None and rival is not None:
            theirs = _holdout(walk, Path(champion.artifact), most)
            scores["champion"] = validate.score(walk.env, rival, theirs, walk.budgets.start)
        elif champion is not None:  # the champion once more: it need not be asked twice
            scores |= {"champion": scores["challenger"], "itself": True}
        scores["names"] = {who: list(read_manifest(where).output.names) for who, where in artifacts.items()}
    asked = walk.acceptance.golden
    _leave(walk, "golden.json", {"rows": rows[:asked], "scores": scores["challenger"][:asked]})
    left = _leave(walk, "scores.json", scores)
    checked = walk.call("gates", walk.budgets.data, data=walk.prepared["data"], scores=left)
    walk.metrics = checked["metrics"]
    findings += [read_finding(plain) for plain in checked["findings"]]
    if not checked["findings"]:
        findings.append(Finding("gates", Verdict.ERROR, 'no gates: add gates=[Gate("roc_auc").at_least(0.8)]'))
    walk.findings += findings
    compared = {
        "metrics": dict(walk.metrics),
        "champion": champion.version if champion else None,
        "champion_metrics": dict(checked.get("champion_metrics", {})),
    }
    finding = _summed("gates", findings)
    finding = replace(finding, evidence={**finding.evidence, **compared})
    _tell_registry(walk, finding)
    return finding


def _scratch(walk: Walk, servers: ExitStack, version: int, digest: str, artifact: Path, interpreter: str) -> Instance:
    # Nobody but the gates asks it: when it ends, no gateway has to look away first.
    alone = {"MODELCD_DRAIN": "0"}
    place = _scratch_place(walk.model)
    unit = Unit(place, walk.model, version, digest, artifact, interpreter=interpreter, environment=alone)
    return servers.enter_context(validate.running(walk.env, unit))


def _champion_can_be_asked(walk: Walk, champion: Candidate) -> None:
    """Raise `ProjectError` when the data lack a column that the champion needs."""
    inputs = [column.name for column in read_manifest(Path(champion.artifact)).inputs]
    lacking = [name for name in inputs if name not in walk.prepared["columns"]]
    if lacking:
        raise ProjectError(
            f"the data have no column {lacking[0]!r}, which version {champion.version} needs, that serves now:"
            " the two cannot be compared on the same rows",
            help="bring the column back; a new version need not learn from it",
        )


def _holdout(walk: Walk, artifact: Path, most: int) -> list[Mapping[str, Any]]:
    """Return the rows of the holdout, *most* at most, as they would be sent to the model."""
    columns = [column.name for column in read_manifest(artifact).inputs]
    arguments = {"data": walk.prepared["data"], "limit": most, "columns": columns}
    return list(walk.call("rows", walk.budgets.data, **arguments)["rows"])


def _leave(walk: Walk, name: str, content: Any) -> str:
    path = walk.folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def prove(walk: Walk) -> Candidate:
    """Record that the version passed: with this, it can be released by whoever may."""
    assert walk.version is not None and walk.artifact is not None, "only a built version is proven"
    # A version that was built before may have got another policy since, whose functions judge its labels.
    kept = walk.trained["source"] if walk.trained else walk.call("snapshot", walk.budgets.data, **_keeping(walk))
    body = {
        "version": walk.version.number,
        "digest": walk.version.digest,
        "artifact": str(walk.artifact),
        "interpreter": walk.interpreter,
        "snapshot": str(place_of(walk.snapshots, kept["snapshot"])),
        "policies": walk.spec["rollouts"],
        "policy_digest": walk.spec["policy_digest"],
        "acceptance": walk.spec["acceptance"],
        "golden": str(walk.folder / "golden.json"),
        "metrics": dict(walk.metrics),
        "findings": [finding_plain(finding) for finding in walk.findings],
    }
    walk.record("proven", body)
    return candidate_from(walk.model, body)


def refuse_unaccepted(first: Environment, model: str, version: int) -> None:
    """Raise `Rejected` for a *version* that was not accepted in the *first* environment: others get only what was."""
    builds = read_builds(first, model)
    if version in builds.accepted:
        return
    tried = next((d for d in reversed(builds.deliveries) if d.version == version), None)
    how = f": delivery {tried.id} {tried.ending or 'is under way'}: {tried.why}".rstrip(": ") if tried else ""
    raise Rejected(
        f"version {version} of {model} was not accepted in {first.name}{how}",
        help="deliver the project again, so that it is staged and tested: modelcd deliver",
    )


def refuse_unserved(before: Environment, model: str, version: int) -> None:
    """Raise `Rejected` for a *version* that never had all of the environment *before*, or was taken back there."""
    endpoint = Watch(before.stream(model)).refresh(before)
    if version in endpoint.champions and endpoint.rejected(version) is None:
        return
    raise Rejected(
        f"version {version} of {model} has not got through {before.name}, which comes before",
        help=f"release it there first: modelcd promote {model} {version} --to {before.name}",
    )


def policy_for(environment: str, policies: Mapping[str, Any]) -> Canary:
    """Return that of *policies*, by the names of environments, for *environment*; raises `ProjectError` without one."""
    if (plain := for_environment(environment, policies)) is None:
        raise ProjectError(
            f"rollout in pipeline.py says nothing of {environment}: it has {', '.join(policies)}",
            help=f'add "{environment}": Canary(…), or "*" for every environment that is not named',
        )
    return from_plain(Canary, plain)


def refuse_misplanned(policies: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise `ProjectError` unless *policies* are those of *names*: one for each that takes a version by a ladder."""
    for other in sorted(set(policies).difference([*names, ANY_OTHER])):
        unknown = UnknownName("environment", other, names)
        raise ProjectError(f"rollout in pipeline.py: {unknown.message}", help=unknown.help)
    for name in names:
        if promotion.by_the_ladder(names, name):
            policy_for(name, policies)


def candidate_from(model: str, proven: Mapping[str, Any], by_the_ladder_of: str = "") -> Candidate:
    """Read the record of a proven version: for everything at once, or by the ladder of an environment."""
    return Candidate(
        model=model,
        version=int(proven["version"]),
        digest=str(proven["digest"]),
        artifact=str(proven["artifact"]),
        interpreter=str(proven["interpreter"]),
        snapshot=str(proven["snapshot"]),
        policy=policy_for(by_the_ladder_of, proven["policies"]) if by_the_ladder_of else AT_ONCE,
        findings=tuple(read_finding(plain) for plain in proven["findings"]),
        golden=str(proven.get("golden", "")),
    )


@contextmanager
def before_traffic(walk: Walk, candidate: Candidate) -> Iterator[str]:
    """Start the version where no traffic comes, and give its address: where no environment is there to accept it in."""
    with ExitStack() as servers:
        started = partial(_scratch, walk, servers)
        instance = started(candidate.version, candidate.digest, Path(candidate.artifact), candidate.interpreter)
        validate.await_ready(walk.env, instance, walk.budgets.start)
        yield instance.address


def accept_version(walk: Walk, env: Environment, url: str) -> Finding:
    """Ask the version at *url*, in *env*, what users will ask, and record it as accepted when it did all of it."""
    golden = json.loads((walk.folder / "golden.json").read_text(encoding="utf-8"))
    findings = [_contract(walk.contract(url, golden["rows"][:3]))]
    findings.append(accept.golden(env, url, golden["rows"], golden["scores"]))
    if walk.acceptance.tests:
        result = walk.call("accept", walk.acceptance.budget, url=url)
        findings.append(_child_finding("acceptance tests", result))
    findings.append(accept.load(env, url, golden["rows"], walk.acceptance))
    walk.findings += findings
    finding = _summed("acceptance", findings)
    if finding.verdict is Verdict.PASS:
        assert walk.version is not None, "only a built version is accepted"
        walk.record("accepted", {"version": walk.version.number})
    return finding


def _contract(points: Sequence[Finding]) -> Finding:
    kept = sum(point.verdict is Verdict.PASS for point in points)
    broken = "; ".join(f"{point.name}: {point.reason}" for point in points if point.verdict is not Verdict.PASS)
    reason = f"{kept} of {counted(len(points), 'point')} of the contract are kept" + (f"; {broken}" if broken else "")
    evidence = {"points": [finding_plain(point) for point in points]}
    return Finding("contract", worst(point.verdict for point in points), reason, evidence)


def _summed(name: str, findings: Sequence[Finding]) -> Finding:
    verdict = worst(finding.verdict for finding in findings)
    bad = [finding for finding in findings if finding.verdict is not Verdict.PASS]
    reason = "; ".join(f"{f.name}: {f.reason}" for f in bad) or "; ".join(f.reason for f in findings)
    return Finding(name, verdict, reason, {"findings": [finding_plain(finding) for finding in findings]})


def read_finding(plain: Mapping[str, Any]) -> Finding:
    """Read a finding that a child or the journal handed back; raises `CannotTell` for anything else."""
    try:
        return Finding(plain["name"], Verdict(plain["verdict"]), plain["reason"], plain.get("evidence", {}))
    except (KeyError, ValueError) as error:
        raise CannotTell(f"a check handed back something that is no finding: {error}") from error

"""The verbs: what the CLI, the HTTP API and Python users call.

Reading (`status`, `history`, `versions`, `diff`) needs the journal and nothing that runs.  `deliver`, `retrain`,
`promote` and `rollback` run as Prefect flows in this process and start what they need first.  All results are plain
JSON values with the same keys everywhere.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcd.domain import promotion
from modelcd.domain.delivery import Delivery, is_endpoint
from modelcd.domain.lineage import commit_of, compared
from modelcd.domain.plain import from_plain
from modelcd.domain.policy import READING, Canary
from modelcd.domain.release import Ask, Endpoint, Release
from modelcd.domain.versions import marked
from modelcd.environment import Environment
from modelcd.errors import CannotTell, JournalError, ModelcdError, RowsRefused, UnknownName, UsageError
from modelcd.explaining import explained, next_steps, verified
from modelcd.history import History, delivery_plain, downtime_plain, release_plain, serving_plain
from modelcd.rows import rows_of
from modelcd.workspace import LOCAL, Workspace, actor, open_workspace, private

if TYPE_CHECKING:
    from modelcd.adapters.journal import SqlJournal
    from modelcd.flows.deliver import Known
    from modelcd.labelling import Labelling
    from modelcd.planning import Given
    from modelcd.platform.environments import Platform
    from modelcd.steps.watch import Watch

FULL = 8_000_000
"""Bytes free on the disk below which it is as good as full."""

Plain = dict[str, Any]


def connect(workspace: str | Path | None = None) -> Control:
    """Return the verbs over a workspace, which is made if there is none yet; nothing is started by this.

    Args:
        workspace: Its folder; by default `MODELCD_WORKSPACE`, or else the user's data folder.

    Raises:
        ConfigurationError: The folder cannot be written, or was made by a newer modelcd.

    Examples:
        >>> from modelcd import connect
        >>> control = connect()
        >>> [line["environment"] for line in control.status("churn")]
        ['production', 'staging']
    """
    return Control(open_workspace(Path(workspace) if workspace is not None else None))


@dataclass(frozen=True)
class Control:
    """What can be done with a workspace: the verbs of the command line, in Python.  Get one from `connect`.

    Results are plain JSON values, the same that `--json` prints.  What a verb cannot do it raises as a `ModelcdError`:
    `UnknownName` for a model, version, environment or release that does not exist, `Refused` where the answer is no,
    `CannotTell` where it could not be found out.

    Args:
        workspace: The workspace, as `modelcd.workspace.open_workspace` returns it.
        tell: Called with the step, its state, what there is to say and the seconds it took, while a flow runs.
        starting: Called with the name of each service that is started first.

    Examples:
        >>> from modelcd import connect
        >>> for line in connect().status("churn"):
        ...     print(line["environment"], "serves version", line["version"])
        production serves version ...
        staging serves version ...
    """

    workspace: Workspace
    tell: Callable[[str, str, Any, float], None] = field(default=lambda *_: None)
    starting: Callable[[str], None] = field(default=lambda _: None)
    _doors: dict[str, Labelling] = field(default_factory=dict, init=False, repr=False, compare=False)

    # -- moving --------------------------------------------------------------------------------------------------------

    def deliver(
        self, project: str | Path = ".", *, reason: str = "", again: str = "", trigger: str = "person"
    ) -> Plain:
        """Build, validate and release a project, from its data to the last environment; returns when that has ended.

        Args:
            project: The folder with `pipeline.py`.
            reason: Why; it stands in the history.
            again: Why a version that was rejected before is tried once more.
            trigger: What set it off, for the history: `person`, `schedule`, …

        Returns:
            `ending` (`promoted`, `nothing new`, `stopped`, `rolled back`, …), `why`, `version`, `delivery` and
            `model`; with a release also everything that `explain` says of it.

        Raises:
            ProjectError: `pipeline.py` or its data cannot be delivered as written.
            Rejected: This version was rejected before, and *again* gives no reason.
            Busy: A release of this model is under way.

        Examples:
            >>> told = control.deliver("churn")
            >>> told["ending"], told["why"]
            ('nothing new', 'version ... in production was built from this very code, data and parameters')
        """
        return self._walk("deliver", project, reason=reason, again=again, trigger=trigger)

    def retrain(self, project: str | Path = ".", *, trigger: str = "person") -> Plain:
        """Deliver a project if there are data that its champion has not seen.

        Args:
            project: The folder with `pipeline.py`.
            trigger: What set it off, for the history.

        Returns:
            What `deliver` returns.

        Examples:
            >>> control.retrain("churn", trigger="nightly job")["ending"]
            'nothing new'
        """
        return self._walk("retrain", project, trigger=trigger)

    def promote(self, model: str, version: int, environment: str = "", *, reason: str = "", again: str = "") -> Plain:
        """Release a version that passed its gates.

        Args:
            model: Its name.
            version: The number of the version.
            environment: Where to; by default the last one.
            reason: Why; it stands in the history.
            again: Why a version that was rejected before is tried once more.

        Returns:
            The release as `explain` has it, with its `ending`; `nothing new` for a version that serves there already,
            unless *again* says why.

        Raises:
            UnknownName: There is no such model, version or environment.
            Rejected: The version did not pass its gates, or was taken out before and *again* gives no reason.

        Examples:
            >>> told = control.promote("churn", 1, "staging", reason="look at it beside the new one")
            >>> told["ending"], told["version"]
            ('promoted', 1)
        """
        environment = self._known(model, environment)
        return self._flow("promote", model=model, version=version, environment=environment, reason=reason, again=again)

    def rollback(self, model: str, environment: str = "", *, to: int | None = None, reason: str = "") -> Plain:
        """End the release under way, or bring back the version before.

        It needs the journal and the gateway and nothing else: no flow, no registry, nobody's leave.

        Args:
            model: Its name.
            environment: Where; by default the last one.
            to: The version to bring back; by default the one before.
            reason: Why; it stands in the history, and the version that is taken out is not released again without
                another one.

        Returns:
            The release that was ended, or the one that brings the version back.

        Raises:
            UsageError: There is no version to go back to.

        Examples:
            >>> told = control.rollback("churn", to=1, reason="complaints from the call centre")
            >>> told["version"]
            1
        """
        from modelcd.platform.services import Services
        from modelcd.steps.rollback import begin_rollback, roll_back

        env, services, who = self._platform.environment(environment or self._last), Services(self.workspace), actor()

        def begin() -> Watch:
            self._known(model, env.name)
            return begin_rollback(env, model, who, reason, to, id=secrets.token_hex(3))

        try:
            watch = begin()
        except JournalError:
            if not env.make_room():  # on a full disk the journal cannot even be opened when nobody has it open
                raise
            watch = begin()
        services.up(("gateway",), tell=self.starting)

        def told(state: str, what: Any) -> None:
            self.tell(env.name, state, what, 0.0)

        look, say, revive = partial(told, "look"), partial(told, "note"), self._platform.revive
        try:
            return roll_back(env, watch, actor=who, tell=look, say=say, revive=revive)
        finally:
            services.up(("control",), tell=self.starting)

    def hold(self, model: str, environment: str = "", *, reason: str = "") -> Plain:
        """Take over: the release under way stays at its share, and nothing changed by hand is put right.

        Guards keep running, and a rollback still works.  The hold ends with `release`, and with nothing else.

        Args:
            model: Its name.
            environment: Where; by default the last one.
            reason: Why; it stands in the history.

        Returns:
            The line of `status` for this model and environment.

        Examples:
            >>> control.hold("churn", reason="the call centre moves house")["held_by"] != ""
            True
        """
        return self._ask(model, environment, Ask.HOLD, reason)

    def release(self, model: str, environment: str = "", *, reason: str = "") -> Plain:
        """End a hold: modelcd goes on with what is under way, and puts right what differs from what is wanted.

        Args:
            model: Its name.
            environment: Where; by default the last one.
            reason: Why; it stands in the history.

        Returns:
            The line of `status` for this model and environment.

        Examples:
            >>> control.release("churn")["held_by"]
            ''
        """
        return self._ask(model, environment, Ask.RESUME, reason)

    def _ask(self, model: str, environment: str, what: Ask, reason: str) -> Plain:
        from modelcd.steps.release import ask

        env = self._known_in(model, environment)
        watch = ask(env, model, what, actor=actor(), reason=reason)
        return self._status(watch.endpoint)

    def _walk(self, name: str, project: str | Path, **parameters: Any) -> Plain:
        from modelcd.adapters.children import warm
        from modelcd.platform.declared import adopt

        path = self._project(project)
        self.tell("describe", "begin", None, 0.0)
        seen = self.workspace.path / "builds" / f"{sha256(str(path).encode()).hexdigest()[:16]}.seen"
        adopt(self.workspace, path, lambda: any(is_endpoint(stream) for stream in self._journal.heads()))
        with warm(path), private():
            if _changed(path, seen):
                # Something is to be delivered, most likely, and Prefect takes as long to import as that to be read.
                threading.Thread(target=self._prefect, daemon=True).start()
            from modelcd.flows.deliver import look

            again, new_data = parameters.get("again", ""), name == "retrain"
            known, new = look(self._platform, path, self._describe(path), again=again, new_data=new_data)
            told = self._flow(name, known, visibly=new, project=str(path), **parameters)
            if told["ending"] in ("promoted", "nothing new"):
                seen.parent.mkdir(parents=True, exist_ok=True)
                seen.touch()
            return told

    def _prefect(self) -> None:
        from modelcd.platform.services import prefect_settings

        os.environ.update(prefect_settings(self.workspace))  # another server must not be sent our credential
        import_module("modelcd.flows.visible")

    def _describe(self, project: Path) -> Mapping[str, Any]:
        """Read the project first: a mistake in it is answered before anything is started."""
        from modelcd.adapters.children import ChildProject

        spec: Mapping[str, Any] = ChildProject(project).call("describe", {}, budget=READING).value
        return spec

    def _flow(self, name: str, known: Known | None = None, *, visibly: bool = True, **parameters: Any) -> Plain:
        from modelcd.flows.run import run_flow
        from modelcd.platform.services import FOR_FLOWS, Services, prefect_settings

        with private():
            Services(self.workspace).up(FOR_FLOWS, tell=self.starting)
            if visibly:
                self._prefect()
            place, server = str(self.workspace.path), prefect_settings(self.workspace)
            asked = {"workspace": place, "by": actor(), **parameters}
            return run_flow(name, self.tell, known, visibly=visibly, server=server, **asked)

    # -- serving -------------------------------------------------------------------------------------------------------

    def predict(
        self, model: str, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], environment: str = ""
    ) -> Plain:
        """Ask the stable address of *model* for one score per row.

        Args:
            model: Its name.
            rows: One row (a mapping from column to value), a list of them, or a DataFrame.
            environment: Where; by default the last one.

        Returns:
            `scores` in the order of the rows, `model`, `version`, and `prediction`, the id for `feedback`; of many
            rows the K-th is `ID/K`, counted from 0.  Where scores are lists, `names` says of what, if it is known.

        Raises:
            UsageError: The model refuses the rows.
            NotReady: Nobody answers at that address.

        Examples:
            >>> from json import loads
            >>> from pathlib import Path
            >>> told = control.predict("churn", loads(Path("churn/row.json").read_text()))
            >>> len(told["scores"]), told["version"]
            (1, '1')
        """
        env = self._known_in(model, environment)
        rows = rows_of(rows)
        try:
            answer = env.scoring.predict(env.router.url(env.stream(model)), rows)
        except RowsRefused as error:
            raise UsageError(
                error.message, help="send every column that the model learned from, as it was there"
            ) from error
        return {
            "scores": list(answer.scores),
            "model": answer.model,
            "version": answer.version,
            "prediction": answer.prediction_id,
            **({"names": list(answer.names)} if answer.names else {}),
        }

    def feedback(
        self,
        model: str,
        labels: Iterable[Any] = (),
        environment: str = "",
        *,
        withdraw: Iterable[str] = (),
        correct: bool = False,
        reason: str = "",
        by: str = "",
    ) -> Plain:
        """Tell the truth of predictions; guards of success and metrics count what arrives.

        Each label is kept or refused by itself, and the same batch may be sent twice.

        Args:
            model: Its name.
            labels: Pairs of a prediction's id and its label, or mappings `{"id": …, "label": …}`.
            environment: Where they were served; by default the last one.
            withdraw: Ids of predictions whose label is taken back.
            correct: Replace a label that was told before and differs; without it that label is refused.
            reason: Why labels are changed; verdicts that used them say so.
            by: Who tells or changes them, which `explain` says; by default who is at it (`MODELCD_ACTOR`).

        Returns:
            How many `joined` a prediction, are `waiting` for one, were known `again`, `corrected`, `withdrawn`,
            `refused`; and `problems`, the first twenty of those refused, each with its `index` (labels first, then
            those to withdraw), `id`, `why` and `help`.

        Raises:
            UsageError: There are no labels, or some are changed without a reason.
            PredictionsError: They could not be written; send them again.

        Examples:
            >>> receipt = control.feedback("churn", [(told["prediction"], True)])
            >>> receipt["joined"] + receipt["waiting"]
            1
            >>> control.feedback("churn", withdraw=[told["prediction"]], reason="of another customer")["withdrawn"]
            1
        """
        from modelcd.labelling import Labelling

        env = self._known_in(model, environment)
        door = self._doors.setdefault(env.name, Labelling(env))
        return door.take(model, labels, withdraw, correct=correct, by=by or actor(), reason=reason)

    def log(self, model: str, version: int, environment: str = "", lines: int = 50) -> str:
        """Return what a version printed, also after it ended.

        Args:
            model: Its name.
            version: The number of the version.
            environment: Where it ran; by default the last one.
            lines: How many of the newest lines.

        Raises:
            UnknownName: This version was never released.

        Examples:
            >>> isinstance(control.log("churn", 1, lines=5), str)
            True
        """
        env = self._known_in(model, environment)
        known = {release.version for e in self._history.endpoints(model) for release in e.releases}
        if version not in known:
            raise UnknownName("version", str(version), [str(number) for number in known])
        return env.runtime.log(f"{env.stream(model)}@{version}", lines)

    def down(self, *, reason: str = "") -> list[str]:
        """End every service and every model of the workspace; nothing is lost, and `modelcd up` starts them again.

        Args:
            reason: Why; it stands in the history, with who did it and when.

        Returns:
            The names of what ran.

        Raises:
            JournalError: All was ended, and it could not be recorded who did it.

        Examples:
            >>> connect("workspace-of-its-own").down()
            []
        """
        from modelcd.platform.services import Services

        try:
            ended = Services(self.workspace).down(reason)
        except JournalError:
            self._end_models()
            raise
        return ended + self._end_models()

    def _end_models(self) -> list[str]:
        from concurrent.futures import ThreadPoolExecutor

        runtimes = [env.runtime for env in self._platform.all().values()]
        running = {instance.place for runtime in runtimes for instance in runtime.instances()}
        places = running | {endpoint.stream for endpoint in self._history.standing()}

        def end(place: str) -> list[str]:
            # Without a gateway no further tick gets so far as to start anything; one under way may have.
            with self._journal.exclusive(place, 30.0):
                there = [(runtime, instance) for runtime in runtimes for instance in runtime.instances(place)]
                for runtime, instance in there:
                    runtime.stop(instance.id)
                return list(dict.fromkeys(instance.id for _, instance in there if instance.alive))

        with ThreadPoolExecutor(8) as pool:
            return [name for names in pool.map(end, sorted(places)) for name in names]

    def url(self, model: str, environment: str = "") -> str:
        """Return the stable address of a model, whichever version answers there.

        Args:
            model: Its name.
            environment: Where; by default the last one.

        Examples:
            >>> control.url("churn")
            'http://127.0.0.1:.../production/churn'
        """
        return f"http://{LOCAL}:{self.workspace.ports['gateway']}/{environment or self._last}/{model}"

    # -- reading -------------------------------------------------------------------------------------------------------

    def status(self, model: str = "") -> list[Plain]:
        """Return what serves where, since when, and what is under way.

        Args:
            model: Only this one.

        Returns:
            A line per model and environment: `model`, `environment`, `version`, `since`, `release`, `url`, `routing`
            (what is wanted), `held_by`, `held_since`, `trouble`, `under_way`, the release or None, `retrain`, as
            `scheduled` gives it, or None, and `down`: `since` when the workspace is down, `by` whom and for what
            `reason`, or None.

        Raises:
            UnknownName: There is no such model.

        Examples:
            >>> control.status("churn")[0]["under_way"] is None
            True
        """
        endpoints = self._history.standing(model)
        if model and not endpoints:
            self._known(model, "")
        scheduled, down = self.scheduled(model), self._down() if endpoints else None
        return [
            {**self._status(endpoint), "retrain": scheduled.get(endpoint.model), "down": down} for endpoint in endpoints
        ]

    def scheduled(self, model: str = "") -> dict[str, Plain]:
        """Tell which models are retrained by themselves, when next, from which folder, and who delivered that.

        Args:
            model: Only this one; all, if empty.

        Returns:
            By the model's name: `cron`, `timezone`, `next` (ISO 8601), `project`, `by` and `since`.

        Examples:
            >>> control.scheduled("churn")
            {}
        """
        from modelcd.steps.schedule import read_schedules

        found, now = read_schedules(self._journal), datetime.now(UTC)
        return {name: one.plain(now) for name, one in found.items() if model in ("", name)}

    def environments(self) -> list[Plain]:
        """Tell where models run, and how a version gets there.

        Returns:
            A line per environment in the order of a promotion: `environment`, `kind`, `takes` (what it lets in), `how`
            (the way a version gets its traffic) and `from`, the file and line that say so.

        Raises:
            ConfigurationError: The file of the environments cannot be read as such; the message names the line.

        Examples:
            >>> [line["environment"] for line in control.environments()]
            ['staging', 'production']
        """
        from modelcd.platform.declared import declared, whence

        kinds, names = declared(self.workspace), self._names
        return [
            {
                "environment": kind.name,
                "kind": type(kind).__name__,
                "takes": promotion.takes(names, kind.name),
                "how": "by the project's rollout" if promotion.by_the_ladder(names, kind.name) else "at once",
                "from": where,
            }
            for kind, where in zip(kinds, whence(self.workspace), strict=True)
        ]

    def history(self, model: str = "", environment: str = "") -> list[Plain]:
        """Return the releases and deliveries of a model, newest first; of all models also who took them down.

        Args:
            model: Its name; all, if empty.
            environment: Only the releases into this one.

        Returns:
            A line for each, with its `kind`: `release`, `rollback` or `delivery`.  The id is `release` (of a delivery
            `delivery`); then `model`, `version`, `by`, `reason`, `opened`, `ended`, `ending`, `why`, and the evidence.
            Of all models also `down` and `up`, when somebody took the `workspace` down (`by`, `reason`, `opened`) or
            brought it back.

        Examples:
            >>> newest = control.history("churn", "production")[0]
            >>> newest["kind"], newest["version"], newest["reason"]
            ('rollback', 1, 'complaints from the call centre')
        """
        if model:
            self._known(model, environment, tried=True)
        elif environment and environment not in self._names:
            raise UnknownName("environment", environment, self._names)
        lines = [
            release_plain(release)
            for endpoint in self._history.endpoints(model)
            if environment in ("", endpoint.environment)
            for release in endpoint.releases
        ]
        if not environment:
            for name in [model] if model else self._history.delivered():
                lines += [{**delivery_plain(one), "model": name} for one in self._history.builds(name).deliveries]
        if not (model or environment):
            lines += [downtime_plain(record) for record in self._history.downtimes()]
        return sorted(lines, key=lambda line: str(line["opened"]), reverse=True)

    def serving(self, model: str, at: datetime, environment: str = "") -> list[Plain]:
        """Return what served which share at some moment, who put it there, and why; from the journal alone.

        Args:
            model: Its name.
            at: The moment, with a time zone.
            environment: Only this one.

        Returns:
            The lines of `status` as of then; `routing` is what was last seen to be served, `put_there` the release
            that made its version the champion, `under_way` the one that was open, `down` who had taken everything down.

        Raises:
            UsageError: *at* lies in the future.

        Examples:
            >>> from datetime import UTC, datetime
            >>> [line["version"] for line in control.serving("churn", datetime.now(UTC), "production")]
            [1]
        """
        self._known(model, environment)
        if at > datetime.now(UTC):
            raise UsageError(f"{at.isoformat(timespec='seconds')} lies ahead", help="what serves now: modelcd status")
        down = self._down(at)
        return [
            {**serving_plain(endpoint, self._status(endpoint)), "down": down}
            for endpoint in self._history.endpoints(model, at)
            if environment in ("", endpoint.environment) and endpoint.seq
        ]

    def versions(self, model: str) -> list[Plain]:
        """Return the versions of a model, newest first.

        Args:
            model: Its name.

        Returns:
            A line per version: `version`, `built`, the digests of artifact, `data` and `code`, `commit`, `rows`,
            `from` and `until`, whether it is `proven` (gates) and `accepted`, and where it `serves`.

        Examples:
            >>> oldest = control.versions("churn")[-1]
            >>> oldest["version"], oldest["proven"], oldest["serves"]
            (1, True, ['production', 'staging'])
        """
        self._known(model, "")
        builds = self._history.builds(model)
        serving = {e.environment: e.champion for e in self._history.standing(model)}
        return [
            {
                **{key: body[key] for key in ("digest", "data", "code", "snapshot", "rows", "worktree", "patch")},
                "commit": marked(body["commit"], body["worktree"]),
                "from": body["data_from"],
                "until": body["data_until"],
                "version": number,
                "built": body["at"],
                "by": body["by"],
                "proven": number in builds.proven,
                "accepted": number in builds.accepted,
                "serves": sorted(name for name, champion in serving.items() if champion == number),
            }
            for number, body in sorted(builds.built.items(), reverse=True)
        ]

    def diff(self, model: str, old: int, new: int) -> Plain:
        """Return for each part of two versions whether it is the same, what differs, or why that is not known.

        Args:
            model: Its name.
            old: The number of one version.
            new: The number of the other.

        Returns:
            `data`, `parameters`, `toolchain`, `commit`, `gates` and `code`, each with its `verdict` ("same", "differs"
            or "unknown"), `why` and `changes`, both sides of each; of the code `files`, each with its `diff`.

        Raises:
            UnknownName: There is no such version.

        Examples:
            >>> control.diff("churn", 1, 2)["code"]["verdict"]
            'differs'
        """
        from modelcd.snapshot import compared as compared_code

        self._known(model, "")
        builds = self._history.builds(model)
        for number in (old, new):
            if number not in builds.built:
                raise UnknownName("version", str(number), [str(known) for known in builds.built])
        parts: Plain = {name: asdict(part) for name, part in compared(builds, old, new).items()}
        parts["code"] = asdict(compared_code(self.workspace.path / "snapshots", builds.built[old], builds.built[new]))
        return {"model": model, "old": old, "new": new, **parts}

    def explain(self, prefix: str) -> Plain:
        """Return one release with its evidence and timeline, or one delivery with its steps.

        Args:
            prefix: The beginning of its id.

        Returns:
            The line of `history`, and for a release `judgement`, `timeline`, the evidence over time, what it cost,
            and the `last_error` that the version printed; for a delivery `next`, what to do and by which `command`.

        Raises:
            UnknownName: No id, or more than one, begins like this.

        Examples:
            >>> control.explain(newest["release"])["ending"] == newest["ending"]
            True
        """
        where, found = self._history.find(prefix)
        if isinstance(found, Delivery):
            return {**delivery_plain(found), "model": str(where), "next": next_steps(str(where), found)}
        assert not isinstance(where, str), "a release comes with its endpoint"
        built = self._history.builds(where.model).built.get(found.version)
        commit = {"commit": commit_of(built) if built else ""}
        told = {**release_plain(found), **commit, **explained(self._journal.read(where.stream), found)}
        return {**told, "last_error": self._last_error(where, found) if found.exposed.failures else ""}

    def replay(self, prefix: str, policy: str | Path | Canary = "") -> Plain:
        """Let the engine decide once more on the traffic of a release, under its own policy or another one.

        Nothing is started and nothing is recorded.

        Args:
            prefix: The beginning of the release's id.
            policy: A rollout, or the Python file that has one; by default the release's own.

        Returns:
            What was `live` decided and what is `replayed`, with what is different between the two.

        Raises:
            UsageError: It is a delivery, or was recorded without the traffic that a replay needs.

        Examples:
            >>> from modelcd import Canary, guard
            >>> first = control.history("churn", "production")[-1]["release"]
            >>> told = control.replay(first, Canary(shares=(10,), guards=[guard.errors()]))
            >>> told["release"] == first
            True
        """
        from modelcd.replayed import replayed

        where, release = self._history.find(prefix)
        if isinstance(where, str) or isinstance(release, Delivery):
            raise UsageError(f"{release.id} is a delivery", help=f"replay one of its releases: modelcd history {where}")
        other = self._policy(policy) if policy else None
        told = replayed(self._journal.read(where.stream), release.id, other)
        return {**told, "policy_file": "" if isinstance(policy, Canary) else str(policy)}

    def plan(
        self,
        model: str = "",
        *,
        project: str | Path = ".",
        policy: str | Path | Canary = "",
        given: Given | None = None,
        soonest: bool = False,
        exposed: float | None = None,
    ) -> Plain:
        """Forecast what the next release by the ladder will need; nothing is started or recorded.

        Args:
            model: Its name, to plan under the policy of its newest release; empty for the model of *project*.
            project: The folder with `pipeline.py`.
            policy: Another rollout, or the Python file that has one.
            given: Traffic and rates to plan with, in the place of what was recorded.
            soonest: Choose the shares that lead to 100 % soonest.
            exposed: With *soonest*, how many requests a version that is worse may get; by default as many as now.

        Returns:
            For each step and guard the requests and seconds it takes, in the median and for nine of ten releases;
            `possible` says whether the release can conclude, None where a guard could not be planned.

        Raises:
            UsageError: A number is neither recorded nor given; the message names the option.

        Examples:
            >>> from modelcd import Canary, guard
            >>> from modelcd.planning import Given
            >>> rollout = Canary(shares=(5, 50), guards=[guard.errors()])
            >>> told = control.plan("churn", policy=rollout, given=Given(requests_per_minute=600, error_rate=0.01))
            >>> told["possible"]
            True
        """
        from modelcd.planning import Given, newest_policy, planned
        from modelcd.steps.build import policy_for

        if model:
            self._known(model, "")
            found = self._policy(policy) if policy else newest_policy(self._history.traffic_of(model, self._last))
        else:
            described = self._describe(self._project(project))
            model = str(described["name"])
            found = self._policy(policy) if policy else policy_for(self._last, described["rollouts"])
        return {
            "model": model,
            **planned(
                found, self._history.traffic_of(model, self._last), given or Given(), soonest=soonest, exposed=exposed
            ),
        }

    def _policy(self, given: str | Path | Canary) -> Canary:
        from modelcd.adapters.children import ChildProject

        if isinstance(given, Canary):
            return given
        path = Path(given).expanduser().resolve()
        file = path / "pipeline.py" if path.is_dir() else path
        if not file.is_file():
            raise UsageError(f"there is no file {file}", help="a policy is a Python file with rollout = Canary(…)")
        said = ChildProject(file.parent).call("policy", {"file": file.name, "environment": self._last}, budget=READING)
        return from_plain(Canary, said.value["rollout"])

    def _last_error(self, endpoint: Endpoint, release: Release) -> str:
        """Return what the version said of the last request it failed at, if its log still has it and it is ours."""
        runtime = self._platform.environment(endpoint.environment).runtime
        for line in reversed(runtime.log(f"{endpoint.stream}@{release.version}", 2_000).splitlines()):
            with suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("level") == "error" and said.get("error"):
                    return str(said["error"])
        return ""

    def heads(self) -> dict[str, Plain]:
        """Return number and digest of the newest record of each stream; kept elsewhere, they make `verify` stronger.

        Examples:
            >>> sorted(control.heads()["production/churn"])
            ['digest', 'seq']
        """
        return {stream: {"seq": head.seq, "digest": head.digest} for stream, head in self._journal.heads().items()}

    def verify(self, against: Mapping[str, Plain] | None = None) -> list[str]:
        """Check that no record of the journal was changed, removed or reordered.

        A history that was written anew as a whole is consistent in itself: that shows only against what was kept.

        Args:
            against: What `heads` once returned.

        Returns:
            A sentence for each stream that does not hold; empty when all do.

        Examples:
            >>> control.verify(against=control.heads())
            []
        """
        return list(self._history.verify(against or {}, self._journal.orphans()))

    def verify_release(self, prefix: str) -> Plain:
        """Compute every verdict of a release once more, from the journal alone.

        Args:
            prefix: The beginning of the release's id.

        Returns:
            What differs from what was recorded, and where the record is broken.

        Examples:
            >>> control.verify_release(first)["release"] == first
            True
        """
        return verified(*self._history.recorded(prefix))

    def services(self) -> Plain:
        """Return which services of the workspace live, and where they answer.

        Examples:
            >>> control.services()["gateway"]
            {'alive': True, 'url': 'http://127.0.0.1:...'}
        """
        from modelcd.platform.services import EVERYTHING, ON_DEMAND, Services

        services = Services(self.workspace)
        urls = {name: services.url(name) for name in (*EVERYTHING, *ON_DEMAND) if name in self.workspace.ports}
        return {name: {"alive": services.alive(name), "url": urls.get(name, "")} for name in (*EVERYTHING, *ON_DEMAND)}

    def full(self) -> bool:
        """Say whether the disk of the workspace is full: then no release steps up, and only a rollback works.

        Examples:
            >>> control.full()
            False
        """
        return shutil.disk_usage(self.workspace.path).free < FULL

    def asleep(self) -> list[str]:
        """Return which of the services that serving needs do not run.

        Examples:
            >>> control.asleep()
            []
        """
        from modelcd.platform.services import Services

        services = Services(self.workspace)
        return [name for name in ("gateway", "control") if not services.alive(name)]

    # -- the floor -----------------------------------------------------------------------------------------------------

    @cached_property
    def _journal(self) -> SqlJournal:
        from modelcd.platform.journal import journal_of

        return journal_of(self.workspace)

    @property
    def _history(self) -> History:
        return History(self._journal)

    @cached_property
    def _platform(self) -> Platform:
        from modelcd.platform.environments import Platform

        return Platform(self.workspace)

    @property
    def _names(self) -> tuple[str, ...]:
        from modelcd.platform.declared import declared  # not of what is bound: that takes imports

        return tuple(kind.name for kind in declared(self.workspace))

    @property
    def _last(self) -> str:
        return self._names[-1]

    def _down(self, at: datetime | None = None) -> dict[str, str] | None:
        from modelcd.platform.downtime import stream_of

        return self._history.down(stream_of(self.workspace), at)

    def _known_in(self, model: str, environment: str) -> Environment:
        """Return the environment that is meant, the last by default; raises `UnknownName` for what is no model."""
        return self._platform.environment(self._known(model, environment))

    def _known(self, model: str, environment: str, *, tried: bool = False) -> str:
        """Return the name of the environment that is meant.

        Raises `UnknownName` for what is no model, unless it was delivered and *tried* says that this is enough.
        """
        names = self._names
        if environment and environment not in names:
            raise UnknownName("environment", environment, names)
        if model in (models := self._history.models()):
            return environment or names[-1]
        if model not in self._history.delivered():
            raise UnknownName("model", model, models)
        if not tried:
            help = f"no delivery of it got as far as a version; why: modelcd history {model}"
            raise UnknownName("model", model, models, help=help)
        return environment or names[-1]

    def _project(self, project: str | Path) -> Path:
        path = Path(project).expanduser().resolve()
        if not path.is_dir():
            near = [folder.name for folder in path.parent.glob("*/") if (folder / "pipeline.py").is_file()]
            raise UnknownName("project folder", str(project), near, help="" if near else "modelcd init NAME makes one")
        if not (path / "pipeline.py").is_file():
            raise UsageError(f"there is no pipeline.py in {path}", help="make a project with: modelcd init NAME")
        return path

    def _status(self, endpoint: Endpoint) -> Plain:
        release = endpoint.open
        return {
            "model": endpoint.model,
            "environment": endpoint.environment,
            "version": endpoint.champion,
            "since": endpoint.champion_since,
            "release": endpoint.champion_release,
            "url": self.url(endpoint.model, endpoint.environment),
            "routing": endpoint.wanted.to_plain() if endpoint.wanted else None,
            "held_by": endpoint.held,
            "held_since": endpoint.held_since,
            "trouble": endpoint.trouble or (endpoint.reopened and f"late labels: {endpoint.reopened}"),
            "under_way": release_plain(release) if release else None,
        }


def _changed(project: Path, seen: Path) -> bool:
    """Say whether anything of *project* changed since *seen* was touched: a hint, by which nothing is decided."""
    if not seen.exists():
        return True
    moment = seen.stat().st_mtime_ns
    for folder, folders, files in os.walk(project):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in (".", *files):
            with suppress(OSError):
                if os.stat(os.path.join(folder, name)).st_ctime_ns > moment:
                    return True
    return False


__all__ = ["CannotTell", "Control", "ModelcdError", "connect"]

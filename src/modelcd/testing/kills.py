"""Killed anywhere, run again, same ending: a suite over every effect of every story; subclass it, give `binding`.

A binding makes worlds: one model, two environments, the moment before a story begins.  In a world the story is run by
a driver that dies at a given `Moment`; then either the same command is run again, or only the reconciler goes on.
What is compared is what can be seen from outside (`Seen`).

When is an ending the same?

* Run again: it ends as the undisturbed story did.  A command that is refused because the release of its dead
  predecessor is still under way is given the reconciler's time and run once more.
* The reconciler alone: each endpoint is as the undisturbed story left it, or as it was before the story, and nothing
  is left open or running.  What never came to a release is a person's to begin anew: then the command is run again,
  and the end is the undisturbed one.  A version that was registered is not trained a second time either way.
* A delivery whose driver died is closed as interrupted (by the reconciler) or abandoned (by the next one), however far
  its release came: that is the one thing in which the journal may differ.

The moments are enumerated from an undisturbed run, not listed; of an effect that a story has many times (a look, a
hold for a tick), the first, a middle and the last are taken.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Protocol, get_args

import pytest

import modelcd.steps
from modelcd.domain.records import Record, broken
from modelcd.domain.rollout import Move, Wait
from modelcd.ports import Journal
from modelcd.testing.faults import AFTER, BEFORE, EFFECTS, Effect, Moment, every

STORIES = (
    "deliver the first version",
    "deliver",
    "retrain",
    "promote",
    "promote in trouble",
    "roll back",
    "roll back what is under way",
    "repair what died",
    "late labels take a promoted version out",
    "what was taken back leaves staging",
    "tell people",
    "give labels",
)
"""What a binding must be able to tell.  In trouble: the champion dies and the gateway refuses once on the way.

To repair is the reconciler's, here as a driver that is killed: a champion is dead and nothing is under way.  So are
late labels, which say that the champion should not have been promoted, and what follows in staging when production
took a version back.
"""


class Way(StrEnum):
    """How it goes on after a driver was killed."""

    AGAIN = "run again"
    RECONCILE = "let the reconciler"


@dataclass(frozen=True)
class Seen:
    """A world from outside, without what differs from run to run (ids, ports, times).

    `endpoints` maps each to what is served there: shares by the gateway, versions that answered users, champion, what
    runs there.  `elsewhere` is what runs in no endpoint, `open` what has not ended, `troubles` what a reader of the
    journal would stumble over.
    """

    endpoints: Mapping[str, Mapping[str, Any]]
    versions: tuple[str, ...]
    aliases: Mapping[str, int]
    labels: int = 0
    elsewhere: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    def against(self, other: Seen) -> list[str]:
        """Say what is different in this world from *other*."""
        mine, theirs = vars(self), vars(other)
        return [f"{name}: {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True)
class Ran:
    """How a driver's run ended: `died`, or by itself with a `refusal` in words if there was one; its `moments`."""

    died: bool = False
    refusal: str = ""
    busy: bool = False
    moments: tuple[Moment, ...] = ()


class World(Protocol):
    """One model in two environments, at the moment before a story begins."""

    def run(self, death: Moment | None = None) -> Ran:
        """Run the story by a driver that dies at *death*; without it, note all moments."""
        ...

    def reconcile(self) -> None:
        """Let the reconciler go round until nothing changes any more."""
        ...

    def look(self) -> Seen:
        """Look at everything from outside."""
        ...

    def close(self) -> None:
        """Let go of what the world holds."""
        ...


class Binding(Protocol):
    """Makes worlds on one backend."""

    def world(self, story: str) -> World:
        """Return a fresh world before *story*."""
        ...

    def sample(self, story: str, way: Way, moments: Sequence[Moment]) -> Sequence[Moment]:
        """Return those of *moments* that there is time for, always the same."""
        ...


@dataclass(frozen=True)
class Undisturbed:
    """A story without a death: the world before and after, and the moments at which its driver can die."""

    before: Seen
    after: Seen
    moments: tuple[Moment, ...]


def undisturbed(binding: Binding, story: str) -> Undisturbed:
    """Tell *story* without a death; raises `AssertionError` when it does not end well by itself."""
    world = binding.world(story)
    try:
        before = world.look()
        ran = world.run()
        world.reconcile()
        after = world.look()
    finally:
        world.close()
    assert not ran.refusal, f"{story}: {ran.refusal}"
    assert not (after.open or after.troubles or after.elsewhere), f"{story}: {after}"
    return Undisturbed(before, after, ran.moments)


def chosen(moments: Sequence[Moment]) -> list[Moment]:
    """Return the *moments* to die at: of an effect that is there often, those of the first, a middle and the last."""
    most: dict[str, int] = {}
    for moment in moments:
        most[moment.effect.name] = max(most.get(moment.effect.name, 0), moment.effect.nth)
    return [m for m in moments if m.effect.nth in {1, (most[m.effect.name] + 1) // 2, most[m.effect.name]}]


def what_is_wrong(binding: Binding, story: str, way: Way, moment: Moment, told: Undisturbed) -> str:
    """Kill the driver of *story* at *moment*, go on the one *way* or the other, and say how the ending differs."""
    world = binding.world(story)
    try:
        if not world.run(moment).died:
            return "the driver never came there"
        registered = world.look().versions
        if way is Way.RECONCILE:
            world.reconcile()
            seen = world.look()
            if left := unsettled(seen, told):
                return f"after the reconciler: {left}"
            if not seen.against(told.after):
                return ""
        again = world.run()
        if again.busy:
            world.reconcile()
            again = world.run()
        world.reconcile()
        wrong = world.look().against(told.after)
        if registered == told.after.versions and any(m.effect.name == TRAINING for m in again.moments):
            wrong.append("a version that was registered was trained a second time")
        return "; ".join([*wrong, f"(refused: {again.refusal})" * bool(again.refusal)]) if wrong else ""
    finally:
        world.close()


TRAINING = "Project.call train"


def unsettled(seen: Seen, told: Undisturbed) -> str:
    """Say what a reconciler left undone, or did that the story never meant."""
    wrong = [*(o for o in seen.open if o not in told.before.open), *seen.troubles, *seen.elsewhere]
    for name, endpoint in seen.endpoints.items():
        if endpoint not in (told.before.endpoints.get(name), told.after.endpoints.get(name)):
            wrong.append(f"{name} is neither as before nor as meant: {endpoint}")
        alias = seen.aliases.get(name.split("/", 1)[0])
        if alias != endpoint["champion"]:
            wrong.append(f"{name}: the alias names {alias}, the champion is {endpoint['champion']}")
    if seen.versions not in (told.before.versions, told.after.versions):
        wrong.append(f"the registry has {seen.versions}")
    return "; ".join(wrong)


class KillContract:
    """Every moment of every story, both ways.  Give `binding`, made once for the class.

    `KNOWN` names what is known to be broken: a regular expression that a whole failure (`story; way; moment: what`)
    matches, and why.  Those are reported as expected failures, and one that no failure matches any more fails the
    suite.  `ABSENT` names the effects that no story has, and why.
    """

    KNOWN: ClassVar[Mapping[str, str]] = {}
    matched: ClassVar[set[str]] = set()
    left_out: ClassVar[set[str]] = set()
    ABSENT: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def told(cls, binding: Binding) -> Callable[[str], Undisturbed]:
        """Return what tells a story undisturbed, once."""
        return cache(lambda story: undisturbed(binding, story))

    @pytest.mark.parametrize("way", Way)
    @pytest.mark.parametrize("story", STORIES)
    def test_killed_anywhere_the_ending_is_the_same(
        self, binding: Binding, told: Callable[[str], Undisturbed], story: str, way: Way
    ) -> None:
        found = []
        all_moments = chosen(told(story).moments)
        moments = binding.sample(story, way, all_moments)
        self.left_out.update({story} if len(moments) < len(all_moments) else ())
        for moment in moments:
            if wrong := what_is_wrong(binding, story, way, moment, told(story)):
                found.append(f"{story}; {way}; {moment}: {wrong}")
        known = {case: why for case in found for pattern, why in self.KNOWN.items() if re.fullmatch(pattern, case)}
        self.matched.update(pattern for pattern in self.KNOWN if any(re.fullmatch(pattern, case) for case in found))
        unexpected = [case for case in found if case not in known]

        assert not unexpected, "\n".join([f"{len(unexpected)} of {len(moments)} cases:", *unexpected])
        if known:
            why = "; ".join(sorted(set(known.values())))
            pytest.xfail(f"{len(known)} of {len(moments)} cases: {why}; {found[0]}")

    def test_what_is_known_to_be_broken_still_is(self, request: pytest.FixtureRequest) -> None:
        ran = [item for item in request.session.items if getattr(item, "cls", None) is type(self)]
        if len(ran) < len(STORIES) * len(Way) + 1 or self.left_out:
            return  # what was left out may be what fails

        assert set(self.KNOWN) - self.matched == set(), "these do not fail any more: strike them off KNOWN"

    def test_every_effect_of_every_port_is_killed_at(self, told: Callable[[str], Undisturbed]) -> None:
        methods = {effect.method for effect in _effects(told)}

        assert every(EFFECTS) - methods == set(self.ABSENT)

    def test_every_move_and_every_kind_of_record_is_killed_at(self, told: Callable[[str], Undisturbed]) -> None:
        names = [effect.name for effect in _effects(told) if effect.method == "Journal.append"]
        kinds = {name.rpartition(": ")[2].split(" ")[0] for name in names}
        moves = {name.rpartition("intended ")[2] for name in names if ": intended " in name}

        assert kinds_of_records() - kinds == set()
        assert moves | {"close", "open"} >= {move.__name__.lower() for move in get_args(Move) if move is not Wait}


def _effects(told: Callable[[str], Undisturbed]) -> set[Effect]:
    return {moment.effect for story in STORIES for moment in told(story).moments}


def kinds_of_records() -> set[str]:
    """Return every kind of record that the steps write, as their code has it."""
    kinds: set[str] = set()
    for module in pkgutil.iter_modules(modelcd.steps.__path__):
        tree = ast.parse(inspect.getsource(import_module(f"modelcd.steps.{module.name}")))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
            if called in ("record", "Entry"):
                texts = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
                kinds.update(text for text in texts[:1] if isinstance(text, str))
    return kinds


# -- what a binding needs ----------------------------------------------------------------------------------------------


def moments_of(effects: Iterable[Effect]) -> tuple[Moment, ...]:
    """Return the moments before and after each of *effects*."""
    return tuple(Moment(effect, when) for effect in effects for when in (BEFORE, AFTER))


def journal_troubles(journal: Journal) -> tuple[str, ...]:
    """Say where *journal* does not hold: a broken chain, an intent without an outcome that nobody took up again."""
    found = []
    for stream in journal.heads():
        records = journal.read(stream)
        if trouble := broken(records):
            found.append(trouble)
        found += _unanswered(stream, records)
    return tuple(found)


def _unanswered(stream: str, records: Sequence[Record]) -> Iterable[str]:
    effects = [record for record in records if record.entry.kind in ("intended", "done", "failed")]
    said = [(record.entry.kind, _what(record)) for record in effects]
    for place, (kind, what) in enumerate(said):
        seq, before, later = effects[place].seq, said[place - 1 : place], said[place + 1 :]
        if kind != "intended" and before != [("intended", what)]:
            yield f"{stream}: record {seq}, {kind} {what}, answers no intent"
        answered = later[:1] in ([("done", what)], [("failed", what)])
        if kind == "intended" and not answered and ("intended", what) not in later:
            yield f"{stream}: record {seq}, intended {what}, has no outcome and was not taken up again"


def _what(record: Record) -> str:
    body = record.entry.body
    return f"{body['effect']} {body.get('version', body.get('step'))}"

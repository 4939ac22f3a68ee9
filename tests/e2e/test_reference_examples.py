"""The examples of the verbs, as the reference has them, do what they say: `churn` is the project that was delivered."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import pytest
from desk import MODEL, Delivered, both, delivered_into, replace
from docstrings import Reference, doctests, methods

pytestmark = pytest.mark.timeout(600)

PUBLIC = Reference()
VERBS = [PUBLIC.named("connect"), PUBLIC.named("control.Control"), *methods(PUBLIC.named("control.Control"))]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """A workspace of this file's own: its versions are moved."""
    with delivered_into(tmp_path_factory.mktemp("examples")) as made:
        yield made


@pytest.fixture(scope="module")
def names(delivered: Delivered) -> dict[str, Any]:
    """What the examples share, with the second of two versions in production."""
    both(replace("pipeline.py", "shares=(5, 25, 50)", "shares=()"), replace("features.py", '"median"', '"mean"'))(
        delivered.project
    )
    second = delivered.modelcd.told("deliver", "--json", cwd=delivered.project)
    assert (second["ending"], second["version"]) == ("promoted", 2)
    return {}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: str(verb.name))
def test_the_example_of_a_verb_does_what_it_says(
    delivered: Delivered, names: dict[str, Any], verb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCD_WORKSPACE", str(delivered.modelcd.workspace))
    monkeypatch.chdir(delivered.project.parent)
    test = doctest.DocTestParser().get_doctest(doctests(verb).replace("churn", MODEL), names, verb.path, None, None)
    said: list[str] = []

    ended = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(
        test, out=said.append, clear_globs=False
    )
    names.update(test.globs)

    assert ended.failed == 0, "".join(said)

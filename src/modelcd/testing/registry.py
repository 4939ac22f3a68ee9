"""What every registry must do: subclass `RegistryContract`, give the fixture `registry`, add nothing.

A registry that keeps artifacts itself (instead of leaving them where they were built) subclasses
`KeepingRegistryContract` too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from modelcd.artifact import Column, Manifest, digest_of, write_manifest
from modelcd.domain.versions import Lineage
from modelcd.errors import Conflict, RegistryError, UnknownName
from modelcd.ports import Build, Registry
from modelcd.testing.faults import overtaken

MODEL = "team/flights"
Builder = Callable[..., Build]


def build_in(folder: Path, training: str = "t1", model: str = MODEL) -> Build:
    """Write a small artifact for *model* into *folder* and return it as a build."""
    folder.mkdir(parents=True)
    inputs = (Column("distance", "double"), Column("carrier", "string", nullable=False))
    write_manifest(folder, Manifest(model=model, flavor="object", file="model.joblib", method="predict", inputs=inputs))
    (folder / "model.joblib").write_bytes(training.encode())
    (folder / "code" / "features").mkdir(parents=True)
    (folder / "code" / "features" / "delay.py").write_text("LIMIT = 15\n")
    lineage = Lineage(
        training=f"sha256:{training}",
        code="sha256:code",
        data="sha256:" + "d" * 64,
        snapshot="sha256:" + "5" * 64,
        commit="abc123",
        worktree="dirty",
        patch="sha256:" + "9" * 64,
        parameters={"depth": "3", "carriers[0]": "AA"},
        toolchain={"python": "3.11.7", "scikit-learn": "1.7.2"},
        rows=1000,
        data_from="2026-01-01",
        data_until="2026-02-01",
    )
    began = "2026-03-01T05:00:00+00:00"
    return Build(model, folder, digest_of(folder), lineage, by="anna", began=began, seconds=2.5)


class _Builds:
    @pytest.fixture
    def build(self, tmp_path: Path) -> Builder:
        """Make builds, each in a folder of its own."""

        def make(training: str = "t1", model: str = MODEL) -> Build:
            return build_in(tmp_path / "builds" / model / training, training, model)

        return make


class RegistryContract(_Builds):
    """Immutable versions, numbered from one, one per training, with aliases that can be moved."""

    def test_an_unknown_model_has_no_versions(self, registry: Registry) -> None:
        assert registry.versions(MODEL) == []

    def test_the_first_version_is_number_one(self, registry: Registry, build: Builder) -> None:
        assert registry.add(build()).number == 1

    def test_an_added_version_is_listed(self, registry: Registry, build: Builder) -> None:
        added = registry.add(build())

        assert registry.versions(MODEL) == [added]

    def test_a_version_is_what_was_built(self, registry: Registry, build: Builder) -> None:
        given = build()
        found = registry.add(given)

        assert (found.model, found.digest, found.lineage) == (MODEL, given.digest, given.lineage)

    def test_a_version_says_when_it_was_made(self, registry: Registry, build: Builder) -> None:
        assert registry.add(build()).created.endswith("+00:00")

    def test_the_same_training_again_is_the_same_version(self, registry: Registry, build: Builder) -> None:
        given = build()

        assert registry.add(given) == registry.add(given)

    def test_the_same_training_again_has_its_aliases(self, registry: Registry, build: Builder) -> None:
        given = build()
        registry.point(MODEL, "production", registry.add(given).number)

        assert registry.add(given).aliases == ("production",)

    def test_writers_of_the_same_training_at_once_make_one_version(self, registry: Registry, build: Builder) -> None:
        given = build()
        with ThreadPoolExecutor(3) as pool:
            numbers = {version.number for version in pool.map(registry.add, [given] * 3)}

        assert numbers == {1}

    def test_versions_are_listed_oldest_first(self, registry: Registry, build: Builder) -> None:
        for training in ("t1", "t2", "t3"):
            registry.add(build(training))

        assert [version.number for version in registry.versions(MODEL)] == [1, 2, 3]

    def test_models_do_not_touch_each_other(self, registry: Registry, build: Builder) -> None:
        registry.add(build(model="flights"))

        assert registry.add(build(model="team/flights")).number == 1

    def test_an_artifact_can_be_fetched(self, registry: Registry, build: Builder) -> None:
        given = build()

        assert digest_of(registry.fetch(MODEL, registry.add(given).number)) == given.digest

    def test_fetching_twice_gives_the_same(self, registry: Registry, build: Builder) -> None:
        number = registry.add(build()).number

        assert registry.fetch(MODEL, number) == registry.fetch(MODEL, number)

    def test_a_fetched_artifact_that_was_imported_from_can_be_fetched_again(
        self, registry: Registry, build: Builder
    ) -> None:
        number = registry.add(build()).number
        cache = registry.fetch(MODEL, number) / "code" / "features" / "__pycache__"
        cache.mkdir()
        (cache / "delay.pyc").write_bytes(b"bytecode")

        assert registry.fetch(MODEL, number).is_dir()

    @pytest.mark.parametrize("number", [0, 2, -1])
    def test_a_number_that_is_not_there_cannot_be_fetched(
        self, registry: Registry, build: Builder, number: int
    ) -> None:
        registry.add(build())

        with pytest.raises(UnknownName):
            registry.fetch(MODEL, number)

    def test_a_model_that_is_not_there_cannot_be_fetched(self, registry: Registry) -> None:
        with pytest.raises(UnknownName):
            registry.fetch("nobody", 1)

    def test_an_alias_names_a_version(self, registry: Registry, build: Builder) -> None:
        registry.point(MODEL, "production", registry.add(build()).number)

        assert registry.versions(MODEL)[0].aliases == ("production",)

    def test_a_version_may_have_several_aliases(self, registry: Registry, build: Builder) -> None:
        registry.add(build())
        for alias in ("staging", "production"):
            registry.point(MODEL, alias, 1)

        assert registry.versions(MODEL)[0].aliases == ("production", "staging")

    def test_an_alias_moves(self, registry: Registry, build: Builder) -> None:
        for training in ("t1", "t2"):
            registry.point(MODEL, "production", registry.add(build(training)).number)

        assert [version.aliases for version in registry.versions(MODEL)] == [(), ("production",)]

    def test_setting_an_alias_again_changes_nothing(self, registry: Registry, build: Builder) -> None:
        registry.add(build())
        for _ in range(2):
            registry.point(MODEL, "production", 1)

        assert registry.versions(MODEL)[0].aliases == ("production",)

    def test_who_was_overtaken_moves_no_alias(self, registry: Registry, build: Builder) -> None:
        registry.add(build())

        with pytest.raises(Conflict):
            registry.point(MODEL, "production", 1, overtaken)

        assert registry.versions(MODEL)[0].aliases == ()

    def test_an_alias_can_name_nothing(self, registry: Registry, build: Builder) -> None:
        registry.add(build())
        registry.point(MODEL, "production", 1)
        registry.point(MODEL, "production", None)

        assert registry.versions(MODEL)[0].aliases == ()

    def test_an_alias_that_is_not_there_can_be_taken_away(self, registry: Registry, build: Builder) -> None:
        registry.add(build())

        registry.point(MODEL, "production", None)

    def test_an_alias_of_an_unknown_model_can_be_taken_away(self, registry: Registry) -> None:
        registry.point("nobody", "production", None)

    def test_an_alias_cannot_name_a_version_that_is_not_there(self, registry: Registry, build: Builder) -> None:
        registry.add(build())

        with pytest.raises(UnknownName):
            registry.point(MODEL, "production", 2)


class KeepingRegistryContract(_Builds):
    """What a registry keeps is what was built, whatever becomes of the folder it was built in."""

    def test_an_artifact_outlives_the_folder_it_was_built_in(self, registry: Registry, build: Builder) -> None:
        given = build()
        number = registry.add(given).number
        shutil.rmtree(given.artifact)

        assert digest_of(registry.fetch(MODEL, number)) == given.digest

    def test_a_changed_artifact_is_not_handed_out(self, registry: Registry, build: Builder) -> None:
        number = registry.add(build()).number
        (registry.fetch(MODEL, number) / "model.joblib").write_bytes(b"another model")

        with pytest.raises(RegistryError, match="not the one that was built"):
            registry.fetch(MODEL, number)

    def test_an_artifact_with_a_file_more_is_not_handed_out(self, registry: Registry, build: Builder) -> None:
        number = registry.add(build()).number
        (registry.fetch(MODEL, number) / "code" / "more.py").write_text("import os\n")

        with pytest.raises(RegistryError, match="not the one that was built"):
            registry.fetch(MODEL, number)

    def test_a_lost_artifact_is_an_error(self, registry: Registry, build: Builder) -> None:
        number = registry.add(build()).number
        shutil.rmtree(registry.fetch(MODEL, number))

        with pytest.raises(RegistryError):
            registry.fetch(MODEL, number)

    def test_a_build_that_is_not_what_its_digest_says_is_not_kept(self, registry: Registry, build: Builder) -> None:
        with pytest.raises(RegistryError, match="not the one that was built"):
            registry.add(replace(build(), digest="sha256:another"))

        assert registry.versions(MODEL) == []

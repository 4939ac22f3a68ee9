"""Catalogs: what all keep, and how MLflow's pages follow the journal when people, deaths and outages come between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from modelcd.adapters.memory import MemoryCatalog
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.adapters.mlflow_catalog import END, LONGEST, MlflowCatalog, described
from modelcd.domain.card import Page
from modelcd.errors import RegistryError
from modelcd.testing.catalog import CARD, MODEL, CatalogContract, Reader
from modelcd.testing.registry import build_in

# MLflow 3.17 uses what SQLAlchemy 2.1 will drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

SLUG = "team--flights"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with two versions of the model."""
    folder = tmp_path_factory.mktemp("built")
    registry = MlflowRegistry(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    for training in ("t1", "t2"):
        registry.add(build_in(folder / training, training))
    return folder / "mlflow.db"


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A copy of this test's own."""
    return Path(shutil.copy(built, tmp_path / "mlflow.db"))


@pytest.fixture
def pages(store: Path) -> MlflowCatalog:
    return MlflowCatalog(MlflowRegistry(f"sqlite:///{store}", store.parent / "artifacts"))


@pytest.fixture
def client(store: Path) -> Any:
    """MLflow's own client."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store}")


def page_of(found: Any) -> Page:
    return Page(found.description or "", dict(found.tags))


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

    @pytest.fixture
    def read(self, catalog: MemoryCatalog) -> Reader:
        return lambda model, number: (
            catalog.cards[model].page if number is None else catalog.cards[model].versions[number]
        )


class TestMlflowCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, pages: MlflowCatalog) -> MlflowCatalog:
        return pages

    @pytest.fixture
    def read(self, client: Any) -> Reader:
        def read(model: str, number: int | None) -> Page:
            name = model.replace("/", "--")
            return page_of(
                client.get_registered_model(name) if number is None else client.get_model_version(name, str(number))
            )

        return read


def test_reading_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    catalog = MlflowCatalog(MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"))
    catalog.show(CARD)

    assert catalog.shown(MODEL) == ""
    assert list(tmp_path.iterdir()) == []


def test_the_run_and_the_table_of_runs_say_it_too(pages: MlflowCatalog, client: Any) -> None:
    pages.show(CARD)
    run = client.get_run(client.get_model_version(SLUG, "1").run_id)
    experiment = client.get_experiment_by_name(MODEL)

    assert run.data.tags["modelcd.state"] == "in production"
    assert run.data.tags["mlflow.note.content"].startswith("In production")
    assert experiment.tags["mlflow.note.content"].startswith("Predicts `late`.")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_what_people_wrote_stays(pages: MlflowCatalog, client: Any) -> None:
    client.update_model_version(SLUG, "1", description="Ask Anna before you retire it.")
    client.set_model_version_tag(SLUG, "1", "owner", "anna")
    newer = replace(CARD, journal="builds/team/flights 12", versions={1: Page("Retired")})
    for card in (CARD, newer, newer):
        pages.show(card)
    found = client.get_model_version(SLUG, "1")

    assert found.description == f"Retired\n\n{END}\n\nAsk Anna before you retire it."
    assert found.tags["owner"] == "anna"


def test_a_long_story_is_cut_at_a_line_and_leaves_people_their_room() -> None:
    text = described("Ask Anna.", "In production\n" + "- a moment\n" * 1000)

    assert len(text) <= LONGEST
    assert "- a moment\n…" in text
    assert text.endswith(f"{END}\n\nAsk Anna.")


def written(count: Callable[[], None]) -> Callable[[], None]:
    """Call *count* before each statement that changes a database; return what ends that."""

    def see(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            count()

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", see)
    return lambda: sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", see)


def test_what_is_shown_already_is_not_written_again(pages: MlflowCatalog) -> None:
    pages.show(CARD)
    writes: list[int] = []
    stop = written(lambda: writes.append(1))
    try:
        pages.show(CARD)
    finally:
        stop()

    assert writes == []


class Died(BaseException):
    """The writer is dead."""


def test_who_is_killed_at_any_write_leaves_it_to_be_found_and_finished(built: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    kills, ended = 0, False
    while not ended:
        folder = tmp_path / str(kills)
        folder.mkdir()
        uri = f"sqlite:///{shutil.copy(built, folder / 'mlflow.db')}"
        catalog, left = MlflowCatalog(MlflowRegistry(uri, folder)), [kills]

        def die(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Died

        stop = written(die)
        try:
            catalog.show(CARD)
            ended = True
        except Died:
            kills += 1
            assert catalog.shown(MODEL) == ""
        finally:
            stop()
        catalog.show(CARD)
        client = MlflowClient(uri)
        version = client.get_model_version(SLUG, "2")
        run = client.get_run(version.run_id).data.tags

        assert catalog.shown(MODEL) == CARD.journal
        assert (version.tags["modelcd.state"], run["modelcd.state"]) == ("stopped at gates", "stopped at gates")
        assert version.description.startswith("Stopped at gates")
        assert run["mlflow.note.content"].startswith("Stopped at gates")

    assert kills > 10


def test_a_database_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be looked at" * 100)

    with pytest.raises(RegistryError):
        MlflowCatalog(MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)).shown(MODEL)

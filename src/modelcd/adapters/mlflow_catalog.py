"""MLflow's pages of models, versions and runs, kept like the journal: descriptions and tags, and no more.

A version's page is written to its run, too, because people come there from the table of runs.  Runs are read only where
their version differs, and written before it, so that whoever was killed in between finds the difference again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from modelcd.adapters.mlflow import MlflowRegistry, door, kept_versions
from modelcd.domain.card import Card, Page
from modelcd.domain.versions import slug

if TYPE_CHECKING:
    import mlflow.entities.model_registry
    from mlflow import MlflowClient

JOURNAL = "modelcd.journal"
"""The tag of a registered model that names the records its pages were made from."""

END = "*Above: written by modelcd from its journal. What you write below this line stays.*"

LONGEST = 5000
"""Signs that MLflow's databases take for a description."""

_NOTE = "mlflow.note.content"
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_MISSING = "RESOURCE_DOES_NOT_EXIST"


class MlflowCatalog:
    """A `Catalog` of what *registry* keeps."""

    def __init__(self, registry: MlflowRegistry) -> None:
        self._registry = registry

    def shown(self, model: str) -> str:
        """Return which records the pages of *model* were made from; empty for none."""
        with door(f"the page of {model} could not be read"):
            found = self._model(model)
            return str(found.tags.get(JOURNAL, "")) if found else ""

    def show(self, card: Card) -> None:
        """Write what differs of *card*: runs and versions, the model, and last which records it was made from."""
        with door(f"the pages of {card.model} could not be written"):
            found = self._model(card.model)
            if found is None:
                return
            client, name = self._registry.opened(), slug(card.model)
            for version in kept_versions(client, card.model):
                if (page := card.versions.get(int(version.version))) is not None:
                    _show_version(client, version, page)
            _show_experiment(client, card)
            for tag, value in _differing(card.page.tags, found.tags).items():
                client.set_registered_model_tag(name, tag, value)
            if (text := described(found.description, card.page.text)) != found.description:
                client.update_registered_model(name, description=text)
            if found.tags.get(JOURNAL) != card.journal:
                client.set_registered_model_tag(name, JOURNAL, card.journal)

    def _model(self, model: str) -> mlflow.entities.model_registry.RegisteredModel | None:
        from mlflow.exceptions import MlflowException

        if self._registry.is_absent():
            return None
        try:
            return self._registry.opened().get_registered_model(slug(model))
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
            return None


def _show_version(client: MlflowClient, version: mlflow.entities.model_registry.ModelVersion, page: Page) -> None:
    tags, text = _differing(page.tags, version.tags), described(version.description, page.text)
    if not tags and text == version.description:
        return
    _show_run(client, str(version.run_id), page)
    for tag, value in tags.items():
        client.set_model_version_tag(version.name, version.version, tag, value)
    client.update_model_version(version.name, version.version, description=text)


def _show_run(client: MlflowClient, run: str, page: Page) -> None:
    from mlflow.exceptions import MlflowException

    try:
        there = client.get_run(run).data.tags
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
        return  # somebody deleted it for good
    _tell(lambda tag, value: client.set_tag(run, tag, value), page, there)


def _show_experiment(client: MlflowClient, card: Card) -> None:
    """Let the table of runs say of which model they are, and open as one of trainings rather than of prompts."""
    found = client.get_experiment_by_name(card.model)
    if found is None or found.lifecycle_stage != "active":
        return
    page = Page(card.page.text, {**_KIND, **card.page.tags} if not _KIND.keys() & found.tags.keys() else card.page.tags)
    _tell(lambda tag, value: client.set_experiment_tag(found.experiment_id, tag, value), page, found.tags)


def _tell(write: Callable[[str, str], object], page: Page, there: Mapping[str, str]) -> None:
    for tag, value in _differing({**page.tags, _NOTE: described(there.get(_NOTE), page.text)}, there).items():
        write(tag, value)


def _differing(tags: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    return {tag: value for tag, value in tags.items() if value != there.get(tag, "")}


def described(there: str | None, text: str) -> str:
    """Return *text* with what people wrote into what is *there*: all that stands below our last line."""
    before, end, below = (there or "").partition(END)
    theirs = (below if end else before).strip()
    room = max(LONGEST - len(END) - len(theirs) - 8, 0)
    if len(text) > room:
        text = text[: max(room - 2, 0)].rpartition("\n")[0] + "\n…"
    return f"{text}\n\n{END}" + (f"\n\n{theirs}" if theirs else "")

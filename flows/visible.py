"""The flows as Prefect shows them: one for each story of `flows/deliver.py`, which says how each goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from prefect import Flow, flow
from prefect.client.schemas.objects import State

from modelcd.flows import deliver as stories
from modelcd.flows._effects import Outcome, outcome, visible
from modelcd.flows._states import BACK, GOOD
from modelcd.flows.deliver import Told


@flow(name="deliver", flow_run_name="deliver {project}")
def deliver(
    workspace: str, project: str, reason: str = "", trigger: str = "person", again: str = "", by: str = ""
) -> State[Told]:
    """Walk the project at *project* from its data to the last environment, as far as it is good."""
    return _shown(partial(stories.deliver, workspace, project, reason, trigger, again, by))


@flow(name="retrain by hand", flow_run_name="retrain {project}")
def retrain(workspace: str, project: str, trigger: str = "person", by: str = "") -> State[Told]:
    """Deliver the project at *project* if there are data that its champion has not seen."""
    return _shown(partial(stories.retrain, workspace, project, trigger, by))


@flow(name="retrain", flow_run_name="retrain {model}")
def retrain_delivered(model: str) -> State[Told]:
    """Do the same for the folder from which a person delivered *model* last: what Prefect starts.

    It takes a name and no folder: who can start a run does not choose whose code is run.
    """
    return _shown(partial(stories.retrain_delivered, model))


@flow(name="promote", flow_run_name="promote {model} {version} to {environment}")
def promote(
    workspace: str, model: str, version: int, environment: str, reason: str = "", again: str = "", by: str = ""
) -> State[Told]:
    """Release a proven version into *environment*: by the ladder of its policy, in the first of several at once."""
    return _shown(partial(stories.promote, workspace, model, version, environment, reason, again, by))


@flow(name="rollback", flow_run_name="rollback {model} in {environment}")
def rollback(
    workspace: str, model: str, environment: str, reason: str = "", to: int | None = None, by: str = ""
) -> State[Told]:
    """End the release under way, or bring back the version before."""
    return _shown(partial(stories.rollback, workspace, model, environment, reason, to, by), BACK)


def _shown(go: Callable[[], Told], good: Mapping[str, str] = GOOD) -> State[Told]:
    return visible(outcome.get(Outcome()), go, good)


FLOWS: dict[str, Flow[..., State[Told]]] = {
    "deliver": deliver,
    "retrain": retrain,
    "promote": promote,
    "rollback": rollback,
}
"""The flows that run in the process of whoever asks for them."""

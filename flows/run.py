"""Running a flow in this process, also when Prefect's server goes away in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State

from modelcd.flows import deliver as flows
from modelcd.flows._effects import Outcome, listener, pages

FLOWS: Mapping[str, Flow[..., State[flows.Told]]] = {
    "deliver": flows.deliver,
    "retrain": flows.retrain,
    "promote": flows.promote,
    "rollback": flows.rollback,
}


def run_flow(
    name: str,
    tell: Callable[[str, str, Any, float], None],
    described: Mapping[str, Any] | None = None,
    *,
    visibly: bool = True,
    **parameters: Any,
) -> dict[str, Any]:
    """Run the flow *name* and return what it told; raises the `ModelcdError` that stopped it.

    *described* is what the project's `pipeline.py` says, if that is known already.
    When Prefect's server cannot be reached, or not *visibly*, the same steps run without its pages; when it goes away
    in the middle, what the story came to counts.
    """
    told, outcome, spec = listener.set(tell), flows.outcome.set(Outcome()), flows.described.set(described)
    try:
        with contextlib.suppress(Exception):
            if visibly:
                FLOWS[name](**parameters)
        if not flows.outcome.get().known:
            without = pages.set(False)
            try:
                FLOWS[name].fn(**parameters)
            finally:
                pages.reset(without)
        result: dict[str, Any] = flows.outcome.get().get()
        return result
    finally:
        listener.reset(told)
        flows.outcome.reset(outcome)
        flows.described.reset(spec)

"""A place in this process: the whole engine with neither disk, network nor waiting.  For tests, tutorials, dry runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelcd.adapters.memory import (
    Behaviour,
    MemoryClock,
    MemoryJournal,
    MemoryPredictions,
    MemoryRegistry,
    MemoryRuntime,
    MemoryScoring,
    Prediction,
)
from modelcd.adapters.memory_project import MemorySuccesses, Success
from modelcd.adapters.memory_traffic import Answer, Backend, MemoryMetrics, MemoryRouter, Reply, Request
from modelcd.environment import Environment
from modelcd.errors import NotReady
from modelcd.ports import Label


class Memory:
    """An environment in this process and the handles of the world around it: users, crashes, time.

    *models* maps the digest of an artifact to what the model does; *successes* the name of a guard to its function.
    """

    def __init__(
        self,
        models: Mapping[str, Behaviour],
        successes: Mapping[str, Success] | None = None,
        name: str = "production",
        journal: MemoryJournal | None = None,
    ) -> None:
        self.clock = MemoryClock()
        self.journal = journal or MemoryJournal()
        self.registry = MemoryRegistry(self.clock)
        self.runtime = MemoryRuntime(models)
        self.router = MemoryRouter()
        self.predictions = MemoryPredictions()
        self.environment = Environment(
            name=name,
            journal=self.journal,
            registry=self.registry,
            runtime=self.runtime,
            scoring=MemoryScoring(self.runtime, self._behind),
            router=self.router,
            metrics=MemoryMetrics(self.router),
            predictions=self.predictions,
            successes=MemorySuccesses(successes or {}),
            clock=self.clock,
        )
        self._sent = 0

    def send(self, model: str, row: Mapping[str, Any], label: Any = None) -> Answer:
        """Ask the endpoint of *model* for one score, as a user would; *label* is the truth that follows."""
        endpoint = self.environment.stream(model)
        for instance in self.runtime.instances(endpoint):
            self.router.serve(instance.address, self._backend(endpoint, instance.address, instance.version))
        self._sent += 1
        answer = self.router.send(endpoint, {"id": f"p{self._sent}", "model": model, "row": dict(row)})
        if answer.status == 200 and label is not None:
            self.predictions.label(endpoint, [Label(f"p{self._sent}", label)])
        return answer

    def _behind(self, address: str) -> str:
        """Return the address of the model with the largest share behind the gateway's *address*, or that very one."""
        endpoint = address.removeprefix(self.router.url(""))
        routing = self.router.read(endpoint) if endpoint != address else None
        if routing is None:
            return address
        version = max(routing.arms, key=lambda arm: arm.share).version
        found = (i.address for i in self.runtime.instances(endpoint) if i.version == version)
        return next(found, address)

    def _backend(self, endpoint: str, address: str, version: int) -> Backend:
        def answer(request: Request) -> Reply:
            try:
                _, behaviour = self.runtime.answering(address)
            except NotReady:
                return Reply(status=502)
            try:
                score = behaviour([request.body["row"]])[0]
            except Exception:
                return Reply(status=500)
            body = request.body
            said = Prediction(body["id"], body["model"], version, request.routing, score, request.leg)
            self.predictions.log(endpoint, [said])
            return Reply(body=score)

        return answer

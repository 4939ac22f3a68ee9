"""The process that serves `retrain` as a deployment for every model that a person scheduled, at its own times.

Run as a module: `python -m modelcd.flows.deployments`, with `MODELCD_WORKSPACE` and Prefect's settings in the
environment.  The control process starts it once something was scheduled, and what is scheduled stands in the journal;
what is scheduled, changed or taken away while it runs is so within seconds.
"""

from __future__ import annotations

import asyncio
import time

from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from modelcd.flows.visible import retrain_delivered
from modelcd.platform.journal import journal_of
from modelcd.steps.schedule import Scheduled, read_schedules
from modelcd.workspace import Workspace, open_workspace

PATIENCE = 120.0
"""Seconds that Prefect's server may take until it answers."""

LOOK_EVERY = 5.0
"""Seconds between two looks at what is scheduled."""


async def serve(workspace: Workspace) -> None:
    """Serve one deployment for each model that is scheduled, and none besides, for ever."""
    await _server()
    journal, runner = journal_of(workspace), Runner(name="modelcd", pause_on_shutdown=False, limit=1)
    running = asyncio.create_task(runner.start())
    served: dict[str, Scheduled] | None = None
    while not running.done():
        wanted = read_schedules(journal)
        if wanted != served:
            await _take_away({_name(model) for model in wanted})
            for model, scheduled in wanted.items():
                if (served or {}).get(model) != scheduled:
                    await runner.aadd_deployment(await _deployment(scheduled))
            served = wanted
        await asyncio.wait([running], timeout=LOOK_EVERY)
    await running


async def _deployment(scheduled: Scheduled) -> RunnerDeployment:
    return await retrain_delivered.ato_deployment(
        name=_name(scheduled.model),
        schedule=Cron(scheduled.retrain.cron, timezone=scheduled.retrain.timezone),
        parameters={"model": scheduled.model},
        description=f"Deliver {scheduled.model} when there are data that its champion has not seen.",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


async def _take_away(wanted: set[str]) -> None:
    """Delete every deployment, with the runs that it planned, that is not *wanted* any more."""
    async with get_client() as client:
        for deployment in await client.read_deployments():
            if deployment.name not in wanted:
                await client.delete_deployment(deployment.id)


def _name(model: str) -> str:
    return model.replace("/", "--")


async def _server() -> None:
    """Wait for Prefect's server, which may be starting; gives up after `PATIENCE` seconds."""
    async with get_client() as client:
        deadline = time.monotonic() + PATIENCE
        while (trouble := await client.api_healthcheck()) is not None:
            if time.monotonic() > deadline:
                raise trouble
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(serve(open_workspace()))

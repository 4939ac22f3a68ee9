"""The process that serves `retrain` as a deployment, on a schedule, for every project that was ever delivered.

Run as a module: `python -m modelcd.flows.deployments`, with `MODELCD_WORKSPACE` and Prefect's settings in the
environment.  A project delivered while it runs is taken in within seconds.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from modelcd.domain.delivery import Builds, fold_builds
from modelcd.environments.journal import journal_of
from modelcd.flows.deliver import retrain_delivered
from modelcd.workspace import Workspace, open_workspace

SCHEDULE = "0 5 * * *"
"""When a project that says nothing else is looked at for new data: every day at five."""

PATIENCE = 120.0
"""Seconds that Prefect's server may take until it answers."""

LOOK_EVERY = 5.0
"""Seconds between two looks for new projects."""


def projects(workspace: Workspace, seen: dict[str, Builds] | None = None) -> dict[str, str]:
    """Return the folder from which a person delivered each model last, as far as it is still there.

    *seen* keeps what was read, so that the next time only what is new has to be.
    """
    journal, seen = journal_of(workspace), seen if seen is not None else {}
    found = {}
    for stream, head in journal.heads("builds/").items():
        builds = seen.get(stream, Builds(stream))
        if builds.seq < head.seq:
            builds = seen[stream] = fold_builds(builds, journal.read(stream, after=builds.seq))
        if builds.delivered_from and Path(builds.delivered_from, "pipeline.py").is_file():
            found[stream.removeprefix("builds/")] = builds.delivered_from
    return found


async def serve(workspace: Workspace) -> None:
    """Serve one deployment a project, for ever."""
    await _server()
    runner = Runner(name="modelcd", pause_on_shutdown=False, limit=1)
    running = asyncio.create_task(runner.start())
    served: dict[str, str] = {}
    seen: dict[str, Builds] = {}
    while not running.done():
        for model, project in projects(workspace, seen).items():
            if served.get(model) != project:
                deployment = await retrain_delivered.ato_deployment(
                    name=model.replace("/", "--"),
                    cron=SCHEDULE,
                    parameters={"model": model},
                    description=f"Deliver {model} when there are data that its champion has not seen.",
                    entrypoint_type=EntrypointType.MODULE_PATH,
                )
                await runner.aadd_deployment(deployment)
                served[model] = project
        await asyncio.wait([running], timeout=LOOK_EVERY)
    await running


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

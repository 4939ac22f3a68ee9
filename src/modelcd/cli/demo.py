"""`modelcd demo`: an ordinary project on real data, delivered by the ordinary commands under live traffic.

The demo only does what people and the world do: months of flights arrive, somebody changes the code, passengers fly.
Nothing of modelcd or of the project knows that it is a demo.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType

import click

from modelcd.cli.app import Taught
from modelcd.cli.folders import copy_project, remember
from modelcd.cli.tables import table
from modelcd.cli.traffic import Traffic
from modelcd.errors import ModelcdError, UsageError

MODEL = "flight-delay"
MONTHS = range(2, 13)
"""The months of live traffic."""

EVERY = 6
"""One of so many flights is asked about, so that a minute of the demo is more than a month of flying: whether there is
air pressure depends on the weather, and a spell without gaps lasts for up to six thousand flights."""


@click.command(cls=Taught)
@click.option("--into", type=click.Path(path_type=Path), default=Path("modelcd-demo"), help="The folder to make.")
@click.option("--rate", default=100.0, show_default=True, help="Requests a second of live traffic.")
def demo(into: Path, rate: float) -> None:
    """Watch a real model being delivered, retrained, and a bad version being rolled back.

    \b
    modelcd demo
    """
    above = click.get_current_context().parent
    if above is not None and above.params.get("workspace") is not None:
        raise UsageError(
            "the demo has a workspace of its own, inside its folder", help="say where: modelcd demo --into FOLDER"
        )
    folder = _fresh(into.expanduser().resolve())
    Demo(folder, rate).run()


@dataclass
class Demo:
    """One run of the demo in *folder*: the project beside its own workspace."""

    folder: Path
    rate: float
    began: float = field(default_factory=time.monotonic)
    story: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self.folder / "flights"

    @property
    def workspace(self) -> Path:
        """The workspace's folder."""
        return self.folder / "workspace"

    def run(self) -> None:
        """Play the whole story."""
        self._say(f"a model project is made in {self.project}")
        copy_project(_example(), self.project, {})
        remember(self.project, "Gradient boosting on flights and weather")
        months = _months(self.project)
        self._arrive(months, 1, "January's flights arrive")
        self._modelcd("deliver", expect=0, note="first version in production")
        traffic = self._traffic(months)
        try:
            self._say(
                f"passengers fly: {self.rate:g} requests a second, one of {EVERY} flights from February on, in time"
                " order; each truth follows as a label"
            )
            self._arrive(months, 2, "February's flights arrive")
            traffic.not_before(datetime(2013, 3, 1))
            self._modelcd("retrain", expect=0, note="retrained, canary, promoted")
            self._say("the team replaces the model by a linear one and drops incomplete rows when preparing data")
            kept = (self.project / "pipeline.py").read_text(encoding="utf-8")
            copy_project(_example() / "variants" / "linear", self.project, {})
            remember(self.project, "A linear model: simpler, and as good on the holdout")
            self._modelcd("deliver", expect=1, note="linear model: rolled back by live metrics")
            self._say("once more, unchanged")
            self._modelcd("deliver", expect=1, note="rejected before: refused")
            (self.project / "pipeline.py").write_text(kept, encoding="utf-8")
            remember(self.project, "Back to gradient boosting")
            self._modelcd("deliver", expect=0, note="nothing new")
            self._modelcd("retrain", expect=0, note="no new data")
        finally:
            sent = traffic.stop()
        self._end(sent)

    def _end(self, sent: str) -> None:
        click.echo("\n" + table(("after", "what", "how"), self.story))
        click.echo(f"\nlive traffic: {sent}\n")
        self._modelcd("history", MODEL, expect=0)
        from modelcd.control import connect

        control = connect(self.workspace)
        services = control.services()
        at = self._typed()
        click.echo(
            f"\nendpoint   {control.url(MODEL)}/predict\n"
            f"flows      {services['prefect']['url']}   (each delivery step by step)\n"
            f"project    {self.project}\n\n"
            f"go on      {at} status\n"
            f"           {at} diff {MODEL} 2 3\n"
            f"           {at} ui\n"
            f"stop       {at} down"
        )

    def _traffic(self, months: ModuleType) -> Traffic:
        from modelcd.control import connect
        from modelcd.workspace import LOCAL

        control = connect(self.workspace)
        place = control.workspace
        door = f"http://modelcd:{place.token}@{LOCAL}:{place.ports['control']}/v1/models/{MODEL}/feedback"
        frames = [months.month(number) for number in MONTHS]
        return Traffic(f"{control.url(MODEL)}/predict", door, frames, "date", "late", self.rate, EVERY).start()

    def _arrive(self, months: ModuleType, number: int, what: str) -> None:
        self._say(what)
        data = self.project / "data"
        data.mkdir(exist_ok=True)
        months.month(number).to_parquet(data / f"2013-{number:02d}.parquet")

    def _modelcd(self, command: str, *arguments: str, expect: int, note: str = "") -> None:
        given = [command, *arguments]
        click.echo(f"\n$ modelcd {' '.join(given)}")
        where = {**os.environ, "MODELCD_WORKSPACE": str(self.workspace)}
        began = time.monotonic()
        ended = subprocess.run([sys.executable, "-m", "modelcd.cli", *given], cwd=self.project, env=where, check=False)
        if note:
            self.story.append(
                (self._clock(), f"modelcd {' '.join(given)}", f"{note}, {time.monotonic() - began:.0f} s")
            )
        if ended.returncode != expect:
            raise ModelcdError(
                f"the demo expected exit code {expect} of modelcd {command}, and got {ended.returncode}",
                help=f"what happened: {self._typed()} history {MODEL} --all",
            )

    def _typed(self) -> str:
        """Return what a person types to go on in this workspace, also where `modelcd` is not on the path."""
        given = Path(sys.argv[0]).resolve()
        known = shutil.which("modelcd")
        if known is not None and Path(known).resolve() == given:
            name = "modelcd"
        elif given.suffix == ".py":
            name = f"{shlex.quote(sys.executable)} -m modelcd.cli"
        else:
            name = shlex.quote(str(given))
        return f"{name} --workspace {shlex.quote(str(self.workspace))}"

    def _say(self, text: str) -> None:
        click.echo(f"\n[{self._clock()}] {text}")

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"


def _fresh(wish: Path) -> Path:
    """Return a folder that is not there yet: what an earlier demo left is not touched."""
    for number in range(1, 1000):
        folder = wish if number == 1 else wish.with_name(f"{wish.name}-{number}")
        if not folder.exists():
            return folder
    raise UsageError(f"{wish} and 998 more are there", help="give another folder: modelcd demo --into FOLDER")


def _example() -> Path:
    """Return the example project, as it came with modelcd."""
    import modelcd

    root = Path(modelcd.__file__).parent
    for folder in (root / "example_flights", root.parent.parent / "examples" / "01-flights"):
        if (folder / "pipeline.py").is_file():
            return folder
    raise ModelcdError("the example project is missing from this installation", help="install modelcd again")


def _months(project: Path) -> ModuleType:
    """Load the project's own `get_data.py`."""
    spec = importlib.util.spec_from_file_location("modelcd_demo_data", project / "get_data.py")
    assert spec is not None and spec.loader is not None, "a file ending in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

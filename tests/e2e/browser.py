"""A real browser, driven through the protocol of its developer tools, and a person in front of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PATIENCE = 60.0


@dataclass
class Page:
    """One tab."""

    session: str
    browser: Browser

    def open(self, url: str) -> Page:
        """Go to *url*, as who types it."""
        said = self.browser.call("Page.navigate", {"url": url}, self.session)
        assert "errorText" not in said, f"{url}: {said}"
        return self.until("document.readyState == 'complete'")

    def run(self, script: str) -> Any:
        """Return what *script*, an expression or a promise, comes to in the page."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        said = self.browser.call("Runtime.evaluate", given, self.session)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def until(self, condition: str) -> Page:
        """Wait until *condition* holds in the page."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition} does not hold: {self.text()}"
            time.sleep(0.1)
        return self

    def text(self) -> str:
        """Return what the page shows."""
        return str(self.run("document.body.innerText"))


class Browser:
    """What the developer tools of one browser are told, and the person who answers its dialogue."""

    def __init__(self, connection: ClientConnection, user: str, password: str) -> None:
        self._connection = connection
        self._answer = {"response": "ProvideCredentials", "username": user, "password": password}
        self._number = 0
        self._asked: set[str] = set()

    def page(self) -> Page:
        """Open another tab."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.call("Fetch.enable", {"handleAuthRequests": True}, session)
        return Page(session, self)

    def call(self, method: str, given: dict[str, Any], session: str = "") -> dict[str, Any]:
        """Return what the browser answers; meanwhile its dialogue is answered, too."""
        number, end = self._send(method, given, session), time.monotonic() + PATIENCE
        while True:
            said = json.loads(self._connection.recv(max(0.0, end - time.monotonic())))
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said}"
                return dict(said["result"])
            paused = {"requestId": said.get("params", {}).get("requestId")}
            if said.get("method") == "Fetch.requestPaused":
                self._send("Fetch.continueRequest", paused, said["sessionId"])
            elif said.get("method") == "Fetch.authRequired":
                again = paused["requestId"] in self._asked
                answer = {"response": "CancelAuth"} if again else self._answer
                self._asked.add(paused["requestId"])
                self._send("Fetch.continueWithAuth", {**paused, "authChallengeResponse": answer}, said["sessionId"])

    def _send(self, method: str, given: dict[str, Any], session: str) -> int:
        self._number += 1
        where = {"sessionId": session} if session else {}
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": given, **where}))
        return self._number


@contextmanager
def browsing(profile: Path, user: str, password: str) -> Iterator[Browser]:
    """Run Chromium with nothing remembered; its person answers a dialogue with *user* and *password*."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("there is no Chromium here")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    with subprocess.Popen(
        [binary, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            port, path = _tools(profile / "DevToolsActivePort")
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as connection:
                yield Browser(connection, user, password)
        finally:
            process.terminate()


def _tools(told: Path) -> tuple[str, str]:
    """Return port and path of the developer tools, which the browser writes into its profile."""
    end = time.monotonic() + PATIENCE
    while not (told.exists() and len(lines := told.read_text().split()) == 2):
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
    return lines[0], lines[1]

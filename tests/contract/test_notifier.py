"""What tells people keeps the contract."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modelcd.adapters.memory import MemoryNotifier
from modelcd.adapters.notices import Notices
from modelcd.testing.notifier import NotifierContract


class TestMemoryNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self) -> MemoryNotifier:
        return MemoryNotifier()


class TestNotices(NotifierContract):
    @pytest.fixture
    def notifier(self, tmp_path: Path) -> Notices:
        return Notices(tmp_path / "notices.log", ["json://127.0.0.1:9/nobody-listens", "no-such-service://secret"])


def test_a_service_is_sent_what_is_told(tmp_path: Path) -> None:
    heard: list[dict[str, str]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Notices(tmp_path / "notices.log", [f"json://127.0.0.1:{server.server_port}"]).tell("release r1", "rolled back")
        server.shutdown()

    assert [(told["title"], told["message"]) for told in heard] == [("release r1", "rolled back")]


def test_what_could_not_be_sent_is_said_without_the_address_that_may_hold_a_secret(tmp_path: Path) -> None:
    Notices(tmp_path / "notices.log", ["json://user:hunter2@127.0.0.1:9"]).tell("release r1", "rolled back")

    text = (tmp_path / "notices.log").read_text(encoding="utf-8")
    assert json.loads(text)["undelivered"] == "1 of 1 services did not take it"
    assert "hunter2" not in text


def test_what_was_told_is_remembered_in_order() -> None:
    notifier = MemoryNotifier()
    notifier.tell("first", "one")
    notifier.tell("second", "two")

    assert notifier.told == [("first", "one"), ("second", "two")]

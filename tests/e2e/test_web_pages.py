"""What a page of another origin can do from a real browser whose person has given the credential: nothing.

Each attack is also made from where it is allowed, so that it would work if it got through.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pandas as pd
import pytest
from browser import Browser, Page, browsing
from desk import MODEL, Delivered

from modelcd.adapters.guard import USER, credential
from modelcd.platform.services import Services
from modelcd.testing.traffic import eventually
from modelcd.workspace import open_workspace

pytestmark = pytest.mark.timeout(600)

ATTACK = """
async (attacks) => {
  const done = {};
  const within = (promise) => Promise.race([promise, new Promise((end) => setTimeout(end, 5000, 'nothing'))]);
  const sent = async (url, options) => {
    try {
      const answer = await fetch(url, {credentials: 'include', ...options});
      return answer.type == 'opaque' ? 'nothing' : 'read ' + await answer.text();
    } catch (error) { return 'nothing'; }
  };
  const framed = (frame, start) => within(new Promise((end) => {
    frame.onload = () => {
      try { end('read ' + frame.contentDocument.body.innerText); } catch (error) { end('nothing'); }
    };
    start();
  }));
  await Promise.all(attacks.map(async ([name, url, body]) => {
    const json = {method: 'POST', body, headers: {'content-type': 'application/json'}};
    const frame = document.body.appendChild(document.createElement('iframe'));
    frame.name = 'sink-' + name;
    const form = document.body.appendChild(document.createElement('form'));
    Object.assign(form, {action: url, method: 'post', enctype: 'text/plain', target: frame.name});
    const field = form.appendChild(document.createElement('input'));
    // A form that sends text/plain writes NAME=VALUE: this makes JSON of it.
    Object.assign(field, {type: 'hidden', name: body.replace(/}$/, ', "x": "'), value: '"}'});
    const image = new Image();
    const socket = new WebSocket(url.replace('http', 'ws'));
    done[name] = {
      get: await within(sent(url, {})),
      post: await sent(url, json),
      put: await sent(url, {...json, method: 'PUT'}),
      simple: await sent(url, {method: 'POST', body}),
      blind: await sent(url, {method: 'POST', body, mode: 'no-cors'}),
      form: await framed(frame, () => form.submit()),
      frame: await framed(frame, () => { frame.src = url; }),
      image: await within(new Promise((end) => {
        image.onload = () => end('read an image'); image.onerror = () => end('nothing'); image.src = url;
      })),
      socket: await within(new Promise((end) => {
        socket.onopen = () => end('read a socket'); socket.onerror = () => end('nothing');
      })),
    };
  }));
  return done;
}
"""

SENT = """
(url, body) => fetch(url, body == '{}' ? {} : {method: 'POST', body, headers: {'content-type': 'application/json'}})
  .then((answer) => answer.text()).catch(() => 'nothing')
"""


@dataclass(frozen=True)
class World:
    """A workspace with all of its services, and somebody's page at another origin."""

    delivered: Delivered
    services: Services
    port: int

    @property
    def token(self) -> str:
        """The credential."""
        return self.services.workspace.token

    def asked(self, service: str, path: str, body: Any = None) -> Any:
        """Ask a service as our own processes do."""
        headers, url = credential(self.token), self.services.url(service) + path
        method = "GET" if body is None else "POST"
        return httpx.request(method, url, json=body, headers=headers, timeout=30).raise_for_status().json()

    def rows(self) -> str:
        """Return a body that the model scores."""
        rows = pd.read_csv(self.delivered.project / "data/measurements.csv").drop(columns=["benign"])
        return f'{{"rows": [{rows.iloc[0].to_json()}]}}'

    def attacks(self) -> list[tuple[str, str, str]]:
        """Return name, address and body of what would change or tell something at each port."""
        flow = self.asked("prefect", "/api/flows/filter", {})[0]["id"]
        url = self.services.url
        metrics = f"{url('gateway')}/production/{MODEL}/metrics"
        return [
            (
                "prefect",
                f"{url('prefect')}/api/flow_runs/",
                json.dumps({"flow_id": flow, "state": {"type": "SCHEDULED"}}),
            ),
            ("events", f"{url('prefect')}/api/events/out", "{}"),
            ("control", f"{url('control')}/v1/status", "{}"),
            ("mlflow", f"{url('mlflow')}/ajax-api/2.0/mlflow/experiments/create", json.dumps({"name": uuid4().hex})),
            ("model", f"{url('gateway')}/production/{MODEL}/predict", self.rows()),
            ("metrics", metrics, "{}"),
            ("admin", f"{url('gateway-admin')}/api/rawdata", "{}"),
            *((f"port-{number}", f"http://127.0.0.1:{number}/predict", self.rows()) for number in self.model_ports()),
        ]

    def model_ports(self) -> list[int]:
        """Return the ports of the model servers themselves."""
        return sorted(
            one.laddr.port
            for process in self.services.processes()
            if "modelcd.serving" in process.cmdline()
            for one in process.net_connections("tcp")
            if one.status == "LISTEN"
        )

    def state(self) -> dict[str, Any]:
        """Return what the attacks would change: runs, experiments, and which requests the models counted."""
        experiments = self.asked("mlflow", "/ajax-api/2.0/mlflow/experiments/search?max_results=100")["experiments"]
        counted = {}
        for number in self.model_ports():
            page = httpx.get(f"http://127.0.0.1:{number}/metrics").text
            counted[number] = re.findall(r"^modelcd_requests_total\S* \S+", page, re.MULTILINE)
        return {
            "runs": self.asked("prefect", "/api/flow_runs/count", {}),
            "experiments": sorted(one["name"] for one in experiments),
            "counted": counted,
        }


class Empty(BaseHTTPRequestHandler):
    """Somebody's page; what it does is told by the developer tools."""

    def do_GET(self) -> None:
        """Answer with an empty page."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>evil</title><body>evil</body>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def world(delivered: Delivered) -> Iterator[World]:
    assert delivered.modelcd("ui").returncode == 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        services = Services(open_workspace(delivered.modelcd.workspace))
        yield World(delivered, services, server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser to which the credential was given, for each service that asks for it."""
    with browsing(tmp_path_factory.mktemp("profile"), USER, world.token) as browser:
        for service, path in (("prefect", "/"), ("mlflow", "/"), ("control", "/v1/status"), ("gateway-admin", "/ping")):
            browser.page().open(world.services.url(service) + path)
        yield browser


@pytest.mark.parametrize(
    ("service", "path", "shows"),
    [("prefect", "/runs", "deliver"), ("prefect", "/", "Runs"), ("mlflow", "/#/models", MODEL)],
)
def test_who_gives_the_credential_sees_the_pages(
    world: World, browser: Browser, service: str, path: str, shows: str
) -> None:
    page = browser.page().open(world.services.url(service) + path)

    page.until(f"document.body.innerText.includes({json.dumps(shows)})")


def test_without_the_credential_there_are_no_pages(world: World, tmp_path: Path) -> None:
    with browsing(tmp_path, USER, "guessed") as browser:
        for service in ("prefect", "mlflow", "control", "gateway-admin"):
            page = browser.page().open(world.services.url(service))

            assert re.search("credential|401 Unauthorized", page.text())


@pytest.mark.parametrize("name", ["evil.localhost", "127.0.0.1"])
def test_a_foreign_page_reads_nothing_and_changes_nothing(world: World, browser: Browser, name: str) -> None:
    before, attacks = world.state(), world.attacks()
    page = browser.page().open(f"http://{name}:{world.port}")

    done = page.run(f"({ATTACK})({json.dumps(attacks)})")

    assert set(done) == {name for name, _, _ in attacks}
    assert {way: came for one in done.values() for way, came in one.items() if came != "nothing"} == {}
    assert world.state() == before


def sent(page: Page, attack: tuple[str, str, str]) -> str:
    """Return what a page reads that sends one of the requests as an application would; `nothing` when refused."""
    return str(page.run(f"({SENT})({json.dumps(attack[1])}, {json.dumps(attack[2])})"))


@pytest.mark.parametrize(
    ("name", "path", "came", "changes"),
    [
        ("prefect", "/", '"flow_id"', True),
        ("mlflow", "/", "experiment_id", True),
        ("model", f"/production/{MODEL}/readyz", '"scores"', True),
        ("control", "/v1/status", MODEL, False),
        ("admin", "/api/rawdata", "routers", False),
    ],
)
def test_the_same_requests_get_through_from_a_service_s_own_page(
    world: World, browser: Browser, name: str, path: str, came: str, changes: bool
) -> None:
    (attack,) = (attack for attack in world.attacks() if attack[0] == name)
    page = browser.page().open(urljoin(attack[1], path))
    before = world.state()

    assert came in sent(page, attack)
    assert (world.state() != before) is changes


def test_a_page_whose_name_was_made_ours_reads_nothing(world: World, browser: Browser) -> None:
    for _, url, _ in world.attacks():
        page = browser.page().open(url.replace("127.0.0.1", "evil.localhost"))

        assert "name" in page.text()
        assert MODEL not in page.text()


def test_a_page_that_was_allowed_asks_models_and_nothing_else(world: World, browser: Browser) -> None:
    origin = f"http://app.localhost:{world.port}"
    attacks = {attack[0]: attack for attack in world.attacks()}
    page = browser.page().open(origin)

    assert sent(page, attacks["model"]) == "nothing"
    assert world.delivered.modelcd("up", "--allow-origin", origin).returncode == 0
    try:
        assert eventually(lambda: '"scores"' in sent(page, attacks["model"]), True)
        assert {name for name, attack in attacks.items() if sent(page, attack) != "nothing"} == {"model", "metrics"}
    finally:
        assert world.delivered.modelcd("up", "--refuse", origin).returncode == 0

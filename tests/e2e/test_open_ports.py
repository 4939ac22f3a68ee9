"""Every port that a workspace opens, found from outside, and every file that it keeps: who may ask, who may read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pandas as pd
import psutil
import pytest
from desk import MODEL, Delivered

from modelcd.adapters.guard import USER, credential
from modelcd.platform.services import Services
from modelcd.workspace import open_workspace

pytestmark = pytest.mark.timeout(600)

LOOPBACK = ("127.0.0.1", "::1")
PATHS = {
    "gateway": (f"/production/{MODEL}/predict", f"/production/{MODEL}/readyz", f"/staging/{MODEL}/metrics", "/"),
    "gateway-admin": ("/api/rawdata", "/metrics", "/ping", "/debug/pprof/"),
    "prefect": ("/api/admin/version", "/api/flow_runs/filter", "/api/deployments/filter", "/ui-settings", "/runs"),
    "control": ("/v1/health", "/v1/status", f"/v1/models/{MODEL}/feedback", "/openapi.json"),
    "mlflow": ("/health", "/ajax-api/2.0/mlflow/registered-models/search", "/api/2.0/mlflow/experiments/create", "/"),
    "model": ("/predict", "/invocations", "/readyz", "/metrics"),
}
"""What is asked at each port; those of the models themselves are no service's."""

EVIL_HOSTS = ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0")
EVIL_PAGES = (
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:1"},
    {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
)
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


@dataclass(frozen=True)
class Port:
    """A port on which a process of the workspace listens."""

    address: str
    service: str
    client: httpx.Client

    def ask(self, method: str, path: str, headers: dict[str, str], body: str = "{}") -> httpx.Response:
        """Ask as a program does that knows nothing of us."""
        return self.client.request(method, path, headers=headers, content=body)

    def everything(self, headers: dict[str, str]) -> list[httpx.Response]:
        """Ask for each path by each method."""
        methods = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
        return [self.ask(method, path, headers) for path in PATHS[self.service] for method in methods]


def processes(folder: str) -> list[psutil.Process]:
    """Return every process that names *folder*: in its command, as its folder or in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == psutil.Process().pid:
                continue
            said = [*process.cmdline(), process.cwd(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(folder in text for text in said):
            found.append(process)
    return found


@pytest.fixture(scope="module")
def ports(delivered: Delivered) -> Iterator[list[Port]]:
    """Every port of the workspace, with all of its services running."""
    assert delivered.modelcd("ui").returncode == 0
    workspace = delivered.modelcd.workspace
    known = {number: name for name, number in open_workspace(workspace).ports.items()}
    found = []
    for process in processes(str(workspace)):
        opened = []
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            opened = process.net_connections("inet")
        for one in opened:
            if one.status == psutil.CONN_LISTEN or (one.type == socket.SOCK_DGRAM and not one.raddr):
                assert one.type == socket.SOCK_STREAM, f"{process.cmdline()} takes datagrams at {one.laddr}"
                client = httpx.Client(trust_env=False, timeout=30, base_url=f"http://{one.laddr.ip}:{one.laddr.port}")
                found.append(Port(one.laddr.ip, known.get(one.laddr.port, "model"), client))
    yield found
    for port in found:
        port.client.close()


def test_all_that_listens_is_known_and_on_the_loopback_only(delivered: Delivered, ports: list[Port]) -> None:
    services = Services(open_workspace(delivered.modelcd.workspace))
    ours = {process.pid for process in services.processes()}
    serving = [process for process in psutil.process_iter() if process.pid in ours]

    assert {port.address for port in ports} <= set(LOOPBACK)
    assert {port.service for port in ports} == set(PATHS)
    # Each model server has one port; there is one in each environment.
    models = sum("modelcd.serving" in process.cmdline() for process in serving)
    assert sum(port.service == "model" for port in ports) == models >= 2


def refused(answer: httpx.Response) -> str:
    """Return what the refusal says, and see that there is nothing else in it."""
    assert answer.status_code in (401, 403), answer.text
    assert not [name for name in answer.headers if name.startswith("access-control")]
    if answer.headers["content-type"] == "application/json":
        said: dict[str, str] = answer.json()
        assert set(said) <= {"error", "help"}
        return said["error"]
    return answer.text


def with_and_without(delivered: Delivered) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers of who has no credential and of who has: a browser adds it to what foreign pages send."""
    return {}, credential(open_workspace(delivered.modelcd.workspace).token)


@pytest.mark.parametrize("host", EVIL_HOSTS)
def test_no_port_answers_to_a_foreign_name(delivered: Delivered, ports: list[Port], host: str) -> None:
    for port in ports:
        for known in with_and_without(delivered):
            for answer in port.everything({**known, "host": host}):
                assert "name" in refused(answer)


@pytest.mark.parametrize("marks", EVIL_PAGES)
def test_no_port_answers_a_foreign_page(delivered: Delivered, ports: list[Port], marks: dict[str, str]) -> None:
    for port in ports:
        for known in with_and_without(delivered):
            for answer in port.everything({**known, **marks, **PREFLIGHT}):
                assert "page" in refused(answer)


def test_without_the_credential_nothing_is_read_or_changed_but_models_are_asked(ports: list[Port]) -> None:
    for port in ports:
        answers = port.everything({})
        if port.service not in ("gateway", "model"):
            assert {answer.status_code for answer in answers} == {401}
            assert all("credential" in refused(answer) or answer.text == "401 Unauthorized\n" for answer in answers)
        else:
            good = {(one.request.method, one.request.url.path) for one in answers if one.status_code < 400}
            assert {method for method, _ in good} == {"GET"}
            assert {path.rsplit("/", 1)[1] for _, path in good} <= {"readyz", "metrics"}


def test_an_application_needs_nothing_by_the_names_of_this_machine(delivered: Delivered, ports: list[Port]) -> None:
    rows = pd.read_csv(delivered.project / "data/measurements.csv").drop(columns=["benign"])
    body = f'{{"rows": [{rows.iloc[0].to_json()}]}}'
    (gateway,) = (port for port in ports if port.service == "gateway")

    for name in ("127.0.0.1", "localhost"):
        answer = gateway.ask("POST", f"/production/{MODEL}/predict", {"host": name}, body)
        assert len(answer.json()["scores"]) == 1


@pytest.mark.parametrize("user", [USER, "admin", ""])
def test_a_wrong_credential_is_none(ports: list[Port], user: str) -> None:
    for port in ports:
        if port.service not in ("gateway", "model"):
            for path in PATHS[port.service]:
                assert port.client.get(path, auth=(user, "wrong")).status_code == 401


def test_a_run_that_a_foreign_page_asks_for_is_not_made(delivered: Delivered, ports: list[Port]) -> None:
    (prefect,) = (port for port in ports if port.service == "prefect")
    known = credential(open_workspace(delivered.modelcd.workspace).token)

    def runs() -> int:
        return int(prefect.ask("POST", "/api/flow_runs/count", known).json())

    before = runs()
    for path in ("/api/deployments/00000000-0000-0000-0000-000000000000/create_flow_run", "/api/flow_runs/"):
        for headers in ({}, {"origin": "http://evil.example"}, {**known, "origin": "http://evil.example"}):
            refused(prefect.ask("POST", path, headers))

    assert before >= 1
    assert runs() == before


def test_what_a_delivery_leaves_is_for_nobody_else(delivered: Delivered) -> None:
    assert delivered.modelcd.open_to_others() == []

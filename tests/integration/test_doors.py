"""Who gets an answer of a real gateway, and who does not: names, pages, the credential, and what is nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelcd.adapters.traefik import Doors, Gateway, TraefikRouter
from modelcd.adapters.traefik.configuration import identifier
from modelcd.testing.router import Place, split
from modelcd.testing.traffic import DOORS, HttpBackends, eventually, free_port

ALLOWED = Doors(DOORS.token, ("models.example.com",), ("https://app.example.com",))
ROWS = json.dumps({"rows": []})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("doors"), free_port(), free_port(), DOORS)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def place(gateway: Gateway) -> Iterator[Place]:
    with HttpBackends() as backends:
        place = Place(TraefikRouter(gateway), backends)
        place.write(split(0.0))
        yield place


def asked(gateway: Gateway, place: Place, method: str = "POST", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"content-type": "application/json", **named}
    return httpx.request(method, f"{gateway.url}/{place.endpoint}/predict", content=ROWS, headers=given)


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return what a refusal says; it has the form of all errors."""
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, sorted(said), answer.headers["content-type"]) == (
        status,
        ["error", "help"],
        "application/json",
    )
    return said


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST:8700", "[::1]"])
def test_names_of_this_machine_are_answered(gateway: Gateway, place: Place, name: str) -> None:
    assert asked(gateway, place, host=name).status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "models.example.com", "127.0.0.1.evil.example", "localhost.evil:80"])
def test_another_name_is_refused_in_words(gateway: Gateway, place: Place, name: str) -> None:
    before = len(place.models[1].requests)

    assert "allow-host" in refused(asked(gateway, place, host=name), 403)["help"]
    assert len(place.models[1].requests) == before


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "https://app.example.com"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
]


@pytest.mark.parametrize("marks", FOREIGN)
def test_a_page_of_another_origin_is_refused_in_words(gateway: Gateway, place: Place, marks: dict[str, str]) -> None:
    before = len(place.models[1].requests)

    answers = [asked(gateway, place, method, **marks) for method in ("POST", "OPTIONS", "GET")]

    assert all("allow-origin" in refused(answer, 403)["help"] for answer in answers)
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)
    assert len(place.models[1].requests) == before


def test_a_page_of_the_gateway_itself_is_answered(gateway: Gateway, place: Place) -> None:
    assert asked(gateway, place, origin=gateway.url, sec_fetch_site="same-origin").status_code == 200


@pytest.mark.parametrize("path", ["/", "/production/unknown/predict", "/production", "/api/rawdata", "/metrics"])
def test_what_is_nowhere_is_answered_as_all_errors_are(gateway: Gateway, place: Place, path: str) -> None:
    assert path in refused(httpx.get(f"{gateway.url}{path}"), 404)["error"]


def test_an_endpoint_that_was_forgotten_serves_once_it_is_told_anew(gateway: Gateway) -> None:
    with HttpBackends() as backends:
        place = Place(TraefikRouter(gateway), backends)
        place.write(split(0.0))
        gateway.forget(gateway.watched / f"{identifier(place.endpoint)}.yml")

        assert eventually(lambda: asked(gateway, place).status_code, 503) == 503
        refused(asked(gateway, place, host="localhost"), 503)
        place.write(split(0.0))
        assert asked(gateway, place).status_code == 200


@pytest.mark.parametrize("path", ["/api/rawdata", "/api/overview", "/metrics", "/ping", "/", "/dashboard/"])
def test_nothing_is_learned_at_the_admin_port_without_the_credential(gateway: Gateway, path: str) -> None:
    url = f"{gateway.admin_url}{path}"
    known = gateway.credential

    assert httpx.get(url).status_code == 401
    assert httpx.get(url, auth=("modelcd", "wrong")).status_code == 401
    assert httpx.get(url, auth=known, headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(url, auth=known, headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(url, auth=known).status_code == 200


def test_what_is_allowed_is_let_in_at_once_and_what_is_taken_back_is_not(gateway: Gateway, place: Place) -> None:
    Gateway(gateway.folder, gateway.port, gateway.admin_port, ALLOWED).start()
    page = {"origin": "https://app.example.com", "sec_fetch_site": "cross-site"}
    wish = {"access_control_request_method": "POST", "access_control_request_headers": "content-type"}

    assert eventually(lambda: asked(gateway, place, host="models.example.com").status_code, 200) == 200
    answer = asked(gateway, place, **page)
    preflight = asked(gateway, place, "OPTIONS", **page, **wish)
    stranger = asked(gateway, place, origin="https://other.example.com")

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example.com")
    assert "X-Prediction-Id" in answer.headers["access-control-expose-headers"]
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert stranger.status_code == 403

    gateway.start()
    assert eventually(lambda: asked(gateway, place, host="models.example.com").status_code, 403) == 403
    assert asked(gateway, place, **page).status_code == 403


def test_nothing_of_the_gateway_is_for_others(gateway: Gateway, place: Place) -> None:
    documents = sorted(gateway.watched.glob("*.yml"))

    assert place.endpoint.replace("/", ".") in [path.stem for path in documents]
    assert [path.name for path in documents if path.stat().st_mode & 0o077] == []
    assert not any(DOORS.token in path.read_text() for path in documents)

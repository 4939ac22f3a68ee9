"""What Traefik is told, what is read back from it, and what is counted on its pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcd.adapters.traefik.configuration import Leaf, Leg, absent, identifier, interpret, render, text_of
from modelcd.adapters.traefik.metrics import parse
from modelcd.domain.routing import Arm, Routing, Shadow, Unit
from modelcd.domain.samples import BUCKETS, LATENCY_GRID
from modelcd.errors import ConfigurationError, MetricsError, RouterError

ENDPOINT = "production/flight-delay"
HALF = Routing((Arm(1, 50.0), Arm(2, 50.0)), (Shadow(3, 10.0),), fallback=1)

part = st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,3})?", fullmatch=True)
endpoints = st.lists(part, min_size=2, max_size=3).map("/".join)


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    versions = draw(st.lists(st.integers(1, 500), min_size=1, max_size=6, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=len(versions) - 1, max_size=len(versions) - 1)))
    weights = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    shadows = draw(st.dictionaries(st.integers(1, 500), st.integers(1, 100), max_size=2))
    return Routing(
        arms=tuple(Arm(version, weight / 100) for version, weight in zip(versions, weights, strict=True)),
        shadows=tuple(Shadow(version, float(percent)) for version, percent in shadows.items()),
        salt=draw(st.text(max_size=5)),
        fallback=draw(st.none() | st.sampled_from(versions)),
    )


def addresses(routing: Routing) -> dict[int, str]:
    return {version: f"http://127.0.0.1:{9000 + version}" for version in routing.versions}


def loaded(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return *document* as Traefik shows it once it is in force."""
    return {
        kind: {f"{name}@file": {**value, "status": "enabled"} for name, value in named.items()}
        for kind, named in json.loads(text_of(document))["http"].items()
    }


def in_force(routing: Routing, endpoint: str = ENDPOINT) -> dict[str, dict[str, Any]]:
    return loaded(render(endpoint, routing, addresses(routing)))


@given(endpoints, st.integers(1, 10_000), st.sampled_from(Leg))
def test_a_leaf_is_read_back_from_its_name(endpoint: str, version: int, leg: Leg) -> None:
    assert Leaf.parse(Leaf(endpoint, version, leg).name + "@file") == Leaf(endpoint, version, leg)


@given(endpoints, endpoints)
def test_distinct_endpoints_have_distinct_identifiers(one: str, other: str) -> None:
    assert (identifier(one) == identifier(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["production", "production/", "/a", "a/b/c/d", "Production/a", "a/b_c", "a/b`c", "a/.."]
)
def test_what_is_no_endpoint_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        identifier(name)


@given(endpoints, routings())
def test_every_routing_is_read_back_as_it_was_written(endpoint: str, routing: Routing) -> None:
    assert interpret(endpoint, in_force(routing, endpoint)) == routing


@given(routings())
def test_nothing_is_absent_once_it_is_in_force(routing: Routing) -> None:
    assert absent(render(ENDPOINT, routing, addresses(routing)), in_force(routing)) == []


@given(routings())
def test_weights_add_up_to_a_hundred_per_cent(routing: Routing) -> None:
    root = render(ENDPOINT, routing, addresses(routing))["http"]["services"][identifier(ENDPOINT)]

    assert sum(entry["weight"] for entry in root["weighted"]["services"]) == 10_000


@given(routings())
def test_no_text_opens_a_template(routing: Routing) -> None:
    assert "{{" not in text_of(render(ENDPOINT, routing, addresses(routing)))


def test_a_salt_with_braces_survives_the_file() -> None:
    routing = Routing((Arm(1, 100.0),), salt="{{{{ env }}")

    assert interpret(ENDPOINT, in_force(routing)) == routing


def test_another_address_is_noticed_as_absent() -> None:
    moved = render(ENDPOINT, HALF, {**addresses(HALF), 2: "http://127.0.0.1:1"})

    assert absent(moved, in_force(HALF)) == [
        "the newest service production.flight-delay_2_main",
    ]


def test_an_arm_without_share_stays_defined() -> None:
    routing = Routing.all_to(2, keeping=(1,))

    assert f"{identifier(ENDPOINT)}_1_main" in render(ENDPOINT, routing, addresses(routing))["http"]["services"]


def test_the_fallback_has_no_fallback_of_its_own() -> None:
    services = render(ENDPOINT, HALF, addresses(HALF))["http"]["services"]

    assert [name for name in services if name.endswith("_fallback")] == ["production.flight-delay_2_fallback"]


def test_a_fallback_answers_from_the_fallbacks_address() -> None:
    services = render(ENDPOINT, HALF, addresses(HALF))["http"]["services"]
    servers = services["production.flight-delay_2_fallback"]["loadBalancer"]["servers"]

    assert servers == [{"url": addresses(HALF)[1]}]


def test_shadows_copy_the_first_arm_only() -> None:
    services = render(ENDPOINT, HALF, addresses(HALF))["http"]["services"]

    assert [name for name in services if "mirroring" in services[name]] == ["production.flight-delay_1_mirrored"]


def test_weights_changed_by_hand_are_read_as_they_are() -> None:
    state = in_force(HALF)
    for entry, weight in zip(
        state["services"]["production.flight-delay@file"]["weighted"]["services"], (90, 10), strict=True
    ):
        entry["weight"] = weight

    assert interpret(ENDPOINT, state) == Routing((Arm(1, 90.0), Arm(2, 10.0)), HALF.shadows, fallback=1)


@pytest.mark.parametrize("kind", ["routers", "services", "middlewares"])
def test_anything_in_error_cannot_be_read(kind: str) -> None:
    state = in_force(HALF)
    next(iter(state[kind].values())).update(status="disabled", error=["broken"])

    with pytest.raises(RouterError, match="broken"):
        interpret(ENDPOINT, state)


def test_a_router_that_is_not_ours_cannot_be_read() -> None:
    state = in_force(HALF)
    state["middlewares"].clear()

    with pytest.raises(RouterError, match="not ours"):
        interpret(ENDPOINT, state)


def test_an_error_of_another_endpoint_is_not_ours() -> None:
    state = in_force(HALF)
    state["services"]["production.flight-delay-b_1_main@file"] = {"status": "disabled"}

    assert interpret(ENDPOINT, state) == HALF


def test_an_endpoint_that_is_not_loaded_is_none() -> None:
    assert interpret("production/other", in_force(HALF)) is None


@pytest.mark.parametrize(
    "routing",
    [
        Routing((Arm(1, 100.0),), unit=Unit.USER),
        Routing((Arm(1, 100.0), *(Arm(version, 0.0) for version in range(2, 12)))),
        Routing((Arm(1, 99.999), Arm(2, 0.001))),
        Routing((Arm(1, 100.0),), (Shadow(2, 0.5),)),
        Routing((Arm(1, 100.0),), (Shadow(2, 1.0), Shadow(2, 2.0))),
    ],
)
def test_what_traefik_cannot_do_is_refused(routing: Routing) -> None:
    with pytest.raises(ConfigurationError):
        render(ENDPOINT, routing, addresses(routing))


@pytest.mark.parametrize("address", ["", "127.0.0.1:9000", "ftp://127.0.0.1"])
def test_an_address_that_is_no_url_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="version 1"):
        render(ENDPOINT, Routing.all_to(1), {1: address})


def page(*lines: tuple[str, str, str, int]) -> str:
    """Return a metrics page with (service, code, method, count), each answer taking 1 ms."""
    text = ["# TYPE traefik_service_requests_total counter"]
    for service, code, method, n in lines:
        labels = f'code="{code}",method="{method}",protocol="http",service="{service}@file"'
        text.append(f"traefik_service_requests_total{{{labels}}} {n}")
        text.append(f"traefik_service_requests_bytes_total{{{labels}}} 1e+06")
        for edge in (*LATENCY_GRID, float("inf")):
            le = "+Inf" if edge == float("inf") else repr(edge)
            text.append(
                f'traefik_service_request_duration_seconds_bucket{{{labels},le="{le}"}} {n if edge >= 0.001 else 0}'
            )
        text.append(f"traefik_service_request_duration_seconds_count{{{labels}}} {n}")
    return "\n".join(text) + "\n"


MAIN = "production.flight-delay_1_main"


def test_codes_of_one_version_are_summed() -> None:
    seen = parse(ENDPOINT, page((MAIN, "200", "POST", 7), (MAIN, "302", "POST", 1), (MAIN, "500", "POST", 2)))[1]

    assert (seen.requests, seen.failures, sum(seen.latency)) == (10, 2, 10)


def test_only_post_is_a_prediction() -> None:
    assert parse(ENDPOINT, page((MAIN, "200", "GET", 7))) == {}


def test_a_client_that_left_is_not_counted() -> None:
    seen = parse(ENDPOINT, page((MAIN, "499", "POST", 7), (MAIN, "200", "POST", 1)))[1]

    assert (seen.requests, seen.failures, sum(seen.latency)) == (1, 0, 1)


def test_fallback_answers_are_rescued_failures_of_the_arm() -> None:
    spare = "production.flight-delay_2_fallback"
    main = "production.flight-delay_2_main"
    seen = parse(ENDPOINT, page((main, "500", "POST", 5), (spare, "200", "POST", 4), (spare, "500", "POST", 1)))

    assert (seen[2].requests, seen[2].failures, seen[2].rescued, list(seen)) == (5, 5, 4, [2])


def test_shadows_and_other_endpoints_are_not_counted() -> None:
    others = ("production.flight-delay_3_shadow", "production.flight-delay-b_1_main", "staging.flight-delay_1_main")

    assert parse(ENDPOINT, page(*((name, "200", "POST", 5) for name in others))) == {}


def test_latencies_are_plain_counts_per_bucket() -> None:
    latency = parse(ENDPOINT, page((MAIN, "200", "POST", 7)))[1].latency
    bucket = next(place for place, edge in enumerate(LATENCY_GRID) if edge >= 0.001)

    assert (len(latency), latency[bucket], sum(latency)) == (BUCKETS, 7, 7)


def test_another_grid_is_an_error() -> None:
    with pytest.raises(MetricsError, match="another grid"):
        parse(ENDPOINT, page((MAIN, "200", "POST", 7)).replace('le="0.0005"', 'le="0.0006"'))


def test_a_line_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(MetricsError):
        parse(ENDPOINT, page((MAIN, "200", "POST", 7)).replace("method=", "verb="))

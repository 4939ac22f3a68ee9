"""One real Traefik: its life, what it is told, what it keeps, and what happens when it is not there."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from modelcd.adapters.traefik import Gateway, TraefikMetrics, TraefikRouter
from modelcd.domain.routing import Arm, Routing
from modelcd.domain.samples import Counters
from modelcd.errors import ConfigurationError, MetricsError, RouterError
from modelcd.testing.router import Place, split
from modelcd.testing.traffic import CUTTING, DOORS, FAILING, OK, HttpBackends, eventually, free_port, http_send


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "gateway", free_port(), free_port(), DOORS)
    yield gateway
    gateway.stop()


@pytest.fixture
def backends() -> Iterator[HttpBackends]:
    with HttpBackends() as backends:
        yield backends


@pytest.fixture
def place(gateway: Gateway, backends: HttpBackends) -> Place:
    gateway.start()
    return Place(TraefikRouter(gateway), backends)


def pid(gateway: Gateway) -> int:
    return int(json.loads((gateway.folder / "gateway.json").read_text())["pid"])


def dynamic(gateway: Gateway) -> Path:
    (file,) = gateway.endpoints()
    return file


def edit(gateway: Gateway, old: str, new: str) -> None:
    """Change the endpoint's file as a person with an editor would, but at once."""
    file = dynamic(gateway)
    text = file.read_text()
    assert old in text
    beside = gateway.folder / "edited"
    beside.write_text(text.replace(old, new))
    beside.replace(file)


class TestTheProcess:
    def test_a_gateway_that_was_never_started_is_not_alive(self, gateway: Gateway) -> None:
        assert not gateway.alive()

    def test_starting_twice_starts_once(self, gateway: Gateway) -> None:
        gateway.start()
        first = pid(gateway)
        gateway.start()

        assert pid(gateway) == first

    def test_another_object_on_the_same_folder_knows_it(self, gateway: Gateway) -> None:
        gateway.start()

        assert Gateway(gateway.folder, gateway.port, gateway.admin_port, DOORS).alive()

    def test_it_outlives_the_process_that_started_it(self, gateway: Gateway) -> None:
        code = (
            "import sys; from pathlib import Path; from modelcd.adapters.traefik import Doors, Gateway; "
            "Gateway(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Doors(sys.argv[4])).start()"
        )
        arguments = [str(gateway.folder), str(gateway.port), str(gateway.admin_port), DOORS.token]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=30)

        assert gateway.alive()

    def test_it_inherits_what_a_program_needs_and_no_secret(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLOUD_SECRET_KEY", "of who called")
        monkeypatch.setenv("TRAEFIK_ENTRYPOINTS_ALL_ADDRESS", "0.0.0.0:1")
        gateway.start()

        environment = psutil.Process(pid(gateway)).environ()
        assert "PATH" in environment
        assert {"CLOUD_SECRET_KEY", "TRAEFIK_ENTRYPOINTS_ALL_ADDRESS"}.isdisjoint(environment)

    def test_a_stopped_one_is_gone(self, gateway: Gateway) -> None:
        gateway.start()
        process = pid(gateway)
        gateway.stop()

        assert not gateway.alive()
        assert eventually(lambda: psutil.pid_exists(process), False) is False

    def test_stopping_twice_is_no_error(self, gateway: Gateway) -> None:
        gateway.start()
        gateway.stop()
        gateway.stop()

        assert not gateway.alive()

    def test_one_that_was_killed_is_started_again(self, gateway: Gateway) -> None:
        gateway.start()
        first = pid(gateway)
        psutil.Process(first).kill()
        assert eventually(gateway.alive, False) is False
        gateway.start()

        assert gateway.alive()
        assert pid(gateway) != first

    @pytest.mark.parametrize("which", ["port", "admin_port"])
    def test_a_taken_port_is_named_with_its_holder(self, gateway: Gateway, which: str) -> None:
        port = getattr(gateway, which)

        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(ConfigurationError, match=rf"{port}.*pid \d+"),
        ):
            gateway.start()

    def test_other_ports_for_a_living_gateway_are_refused(self, gateway: Gateway) -> None:
        gateway.start()

        with pytest.raises(ConfigurationError, match="runs on ports"):
            Gateway(gateway.folder, free_port(), gateway.admin_port, DOORS).start()

    def test_one_port_for_both_is_refused(self, tmp_path: Path) -> None:
        port = free_port()

        with pytest.raises(ConfigurationError, match="twice"):
            Gateway(tmp_path, port, port, DOORS).start()


class TestRouting:
    def test_it_comes_back_with_the_routing_it_had(self, gateway: Gateway, place: Place) -> None:
        place.write(split(25.0, fallback=True))
        gateway.stop()
        gateway.start()

        assert eventually(lambda: place.router.read(place.endpoint), split(25.0, fallback=True)) == split(
            25.0, fallback=True
        )

    def test_the_same_write_again_writes_no_file(self, gateway: Gateway, place: Place) -> None:
        place.write(split(25.0))
        before = dynamic(gateway).stat()
        place.write(split(25.0))
        after = dynamic(gateway).stat()

        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    def test_weights_changed_behind_our_back_are_read(self, gateway: Gateway, place: Place) -> None:
        place.write(split(25.0))
        edit(gateway, '"weight": 7500', '"weight": 2500')
        expected = Routing((Arm(1, 50.0), Arm(2, 50.0)))

        assert eventually(lambda: place.router.read(place.endpoint), expected) == expected

    def test_what_was_changed_behind_our_back_is_put_right(self, gateway: Gateway, place: Place) -> None:
        place.write(split(25.0))
        edit(gateway, '"weight": 7500', '"weight": 2500')
        eventually(lambda: place.router.read(place.endpoint) != split(25.0), True)
        place.write(split(25.0))

        assert place.router.read(place.endpoint) == split(25.0)

    def test_a_router_in_error_cannot_be_read(self, gateway: Gateway, place: Place) -> None:
        place.write(split(25.0))
        name = place.endpoint.replace("/", ".")
        edit(gateway, f'"name": "{name}_2_main"', f'"name": "{name}_9_main"')

        def read() -> str:
            try:
                return str(place.router.read(place.endpoint))
            except RouterError:
                return "cannot tell"

        assert eventually(read, "cannot tell") == "cannot tell"

    def test_a_file_that_was_removed_reads_none(self, gateway: Gateway, place: Place) -> None:
        place.write(split(25.0))
        dynamic(gateway).unlink()

        assert eventually(lambda: place.router.read(place.endpoint), None) is None

    def test_traffic_leaves_a_dead_version_although_nobody_answers_the_probe(
        self, place: Place, backends: HttpBackends
    ) -> None:
        place.write(split(0.0))
        for address in place.addresses.values():
            backends.stop(address)
        place.write(split(100.0))

        assert place.router.read(place.endpoint) == split(100.0)

    def test_a_change_that_is_not_seen_in_time_is_an_error(
        self, gateway: Gateway, place: Place, tmp_path: Path
    ) -> None:
        unwatched = Gateway(tmp_path / "unwatched", gateway.port, gateway.admin_port, DOORS)
        unwatched.watched.mkdir(parents=True)

        with pytest.raises(RouterError, match="did not load"):
            TraefikRouter(unwatched, deadline=0.2).write(place.endpoint, split(0.0), place.addresses)

    def test_a_gateway_that_is_down_cannot_be_read(self, gateway: Gateway) -> None:
        with pytest.raises(RouterError):
            TraefikRouter(gateway).read("production/flight-delay")

    def test_nothing_is_written_for_a_gateway_that_is_down(self, gateway: Gateway, place: Place) -> None:
        gateway.stop()
        with pytest.raises(RouterError):
            place.write(split(0.0))

        assert gateway.endpoints() == []

    def test_a_client_cannot_say_what_only_the_gateway_says(self, gateway: Gateway, place: Place) -> None:
        place.write(split(0.0))
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        forged = {"X-Modelcd-Leg": "shadow", "X-Modelcd-Routing": "forged", "X_Modelcd_Leg": "shadow"}
        forged |= {"X-Modelcd-Gateway": "forged", "X_Modelcd_Gateway": "forged"}
        connection.request("POST", f"/{place.endpoint}/predict", b"{}", forged)
        response = connection.getresponse()
        response.read()
        connection.close()
        (request,) = place.models[1].requests

        assert (request.leg, request.routing, request.gateway) == ("main", split(0.0).revision, DOORS.secret)
        assert response.headers.get_all("X-Modelcd-Routing") == [split(0.0).revision]
        assert response.headers.get_all("X-Version") == ["1"]

    def test_a_model_knows_the_gateway_on_every_leg_by_what_nobody_else_can_read(
        self, gateway: Gateway, place: Place
    ) -> None:
        place.models[2].reply = FAILING
        place.write(split(50.0, fallback=True, shadow=100.0))
        said = ""
        for _ in range(4):
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
            connection.request("POST", f"/{place.endpoint}/predict", b"{}")
            response = connection.getresponse()
            said += f"{response.read()!r}{response.getheaders()}"
            connection.close()
            assert response.status == 200

        def known() -> dict[str, str]:
            return {one.leg: one.gateway for model in place.models.values() for one in model.requests}

        wanted = dict.fromkeys(("main", "fallback", "shadow"), DOORS.secret)
        assert eventually(known, wanted) == wanted
        gateway.stop()
        logs = gateway.access_log.read_text() + gateway.log.read_text()
        assert not [text for text in (said, logs) if DOORS.secret in text or DOORS.token in text]
        assert not [file for file in gateway.watched.iterdir() if file.stat().st_mode & 0o077]


class TestCounts:
    def test_a_gateway_that_is_down_has_no_counts(self, gateway: Gateway) -> None:
        with pytest.raises(MetricsError):
            TraefikMetrics(gateway).counters("production/flight-delay")

    def test_counts_begin_anew_with_the_process(self, gateway: Gateway, place: Place) -> None:
        metrics = TraefikMetrics(gateway)
        place.write(split(0.0))
        place.models[1].reply = CUTTING
        http_send(place.router)(place.endpoint, 2)
        assert eventually(lambda: metrics.counters(place.endpoint)[1].failures, 2) == 2
        gateway.stop()
        gateway.start()
        place.write(split(0.0))

        assert replace(metrics.counters(place.endpoint)[1], epoch="") == Counters()

    def test_a_restart_shows_also_when_the_new_counts_have_overtaken_the_old(
        self, gateway: Gateway, place: Place
    ) -> None:
        metrics, send = TraefikMetrics(gateway), http_send(place.router)

        def counted(n: int) -> Counters:
            assert eventually(lambda: metrics.counters(place.endpoint)[1].requests, n) == n
            return metrics.counters(place.endpoint)[1]

        place.write(split(0.0))
        send(place.endpoint, 2)
        before = counted(2)
        gateway.stop()
        gateway.start()
        place.write(split(0.0))
        send(place.endpoint, 5)

        assert counted(5).since(before).requests == 5

    def test_cut_answers_are_counted_once_whoever_reads(self, gateway: Gateway, place: Place) -> None:
        place.write(split(0.0))
        place.models[1].reply = CUTTING
        send = http_send(place.router)
        for n in (2, 4):
            send(place.endpoint, 2)
            read = TraefikMetrics(gateway).counters

            assert eventually(lambda read=read: read(place.endpoint)[1].failures, n) == n  # type: ignore[misc]

    def test_a_log_that_is_begun_anew_loses_no_cut_answer(self, gateway: Gateway, place: Place) -> None:
        metrics = TraefikMetrics(gateway, rotate_at=500)
        place.write(split(0.0))
        send = http_send(place.router)
        for n in range(1, 11):
            place.models[1].reply = CUTTING
            send(place.endpoint)
            place.models[1].reply = OK
            send(place.endpoint, 5)

            assert eventually(lambda: metrics.counters(place.endpoint)[1].failures, n) == n

        assert sum(file.stat().st_size for file in gateway.folder.glob("access.log*")) < 5000

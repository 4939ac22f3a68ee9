"""The `Metrics` port on Traefik: its Prometheus page for what was answered, its access log for what was cut.

Traefik counts an answer when its handler returns; an answer cut in mid-body ends the handler by a panic and is in no
metric, so a version that cuts its answers would look clean.  The access log has it, with the origin status 0.  A
client that leaves in mid-body looks the same there and counts as a failure too: for answers as small as predictions
that is rare, and it is the careful side.

Trade-off: lines are picked by a search for the endpoint's services, not by a Prometheus parser, which would take
seconds for a page with a thousand services.  How far the log was read, and what was found, is kept in a file beside
it, so that a new process neither reads it all again nor loses counts when the log is cut short.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from modelcd.adapters.traefik.admin import opened
from modelcd.adapters.traefik.configuration import Leaf, Leg, identifier
from modelcd.adapters.traefik.gateway import Gateway
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Counters
from modelcd.errors import MetricsError

_REQUESTS = "traefik_service_requests_total"
_LATENCY = "traefik_service_request_duration_seconds_bucket"
_STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_EDGES = {**{edge: place for place, edge in enumerate(LATENCY_GRID)}, float("inf"): BUCKETS - 1}
_GONE = "499"
_CHUNK = 1 << 20


class TraefikMetrics:
    """Counts predictions (POST) per version; the access log is begun anew when it has *rotate_at* bytes."""

    def __init__(self, gateway: Gateway, rotate_at: int = 64 << 20) -> None:
        self._gateway = gateway
        self._cuts = CutAnswers(gateway, rotate_at)

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """Return cumulative counters since Traefik started, per version of *endpoint*; raises `MetricsError`."""
        marker = identifier(endpoint) + "_"
        with opened(MetricsError, self._gateway.admin_url, self._gateway.credential) as client:
            found = client.get("/api/http/services", params={"search": marker, "per_page": "1000"})
            leaves = [Leaf.parse(service["name"]) for service in found.raise_for_status().json()]
            page = client.get("/metrics").raise_for_status().text
        versions = {leaf.version for leaf in leaves if leaf and leaf.endpoint == endpoint}
        cuts = self._cuts.read()
        counted, epoch = parse(endpoint, page), epoch_of(page)
        return {
            version: replace(_with_cuts(counted, cuts, Leaf(endpoint, version, Leg.MAIN)), epoch=epoch)
            for version in sorted(versions)
        }


def epoch_of(page: str) -> str:
    """Return when the Traefik that wrote *page* began: counters of another one cannot be compared with its."""
    found = _STARTED.search(page)
    return found.group(1) if found else ""


def parse(endpoint: str, page: str) -> dict[int, Counters]:
    """Return the counters of *endpoint* from a Prometheus page, cut answers not included; raises `MetricsError`."""
    answers: Counter[tuple[int, Leg, bool]] = Counter()
    slower: dict[int, list[int]] = {}
    for sample in _samples(page, f'service="{identifier(endpoint)}_'):
        leaf = Leaf.parse(sample.service)
        if leaf is None or leaf.endpoint != endpoint or sample.method != "POST" or sample.code == _GONE:
            continue
        if sample.edge is None:
            answers[leaf.version, leaf.leg, sample.code[:1] in ("2", "3")] += sample.value
        elif leaf.leg is Leg.MAIN:
            slower.setdefault(leaf.version, [0] * BUCKETS)[_place(sample.edge)] += sample.value
    return {
        version: Counters(
            requests=answers[version, Leg.MAIN, True] + answers[version, Leg.MAIN, False],
            failures=answers[version, Leg.MAIN, False],
            latency=_plain(slower.get(version, [0] * BUCKETS)),
            rescued=answers[version, Leg.FALLBACK, True],
        )
        for version in {version for version, leg, _ in answers if leg is not Leg.SHADOW}
    }


def _with_cuts(counted: Mapping[int, Counters], cuts: Mapping[str, int], leaf: Leaf) -> Counters:
    seen = counted.get(leaf.version, Counters())
    cut = cuts.get(f"{leaf.name}@file", 0)
    return Counters(seen.requests + cut, seen.failures + cut, seen.latency, seen.rescued)


class _Sample(NamedTuple):
    service: str
    method: str
    code: str
    edge: str | None
    value: int


def _samples(page: str, marker: str) -> Iterator[_Sample]:
    at = page.find(marker)
    while at >= 0:
        start, end = page.rfind("\n", 0, at) + 1, page.find("\n", at)
        end = end if end >= 0 else len(page)
        yield from _sample(page[start:end])
        at = page.find(marker, end)


def _sample(line: str) -> list[_Sample]:
    name, _, rest = line.partition("{")
    if name not in (_REQUESTS, _LATENCY):
        return []
    text, _, value = rest.rpartition("} ")
    try:
        found = dict(_LABEL.findall(text))
        edge = found["le"] if name == _LATENCY else None
        return [_Sample(found["service"], found["method"], found["code"], edge, int(float(value)))]
    except (KeyError, ValueError) as error:
        raise MetricsError(f"Traefik's metrics cannot be read: {line!r}", help="see traefik.log") from error


def _place(edge: str) -> int:
    try:
        return _EDGES[float(edge)]
    except (KeyError, ValueError) as error:
        raise MetricsError(
            f"Traefik counts latencies on another grid (it has an edge at {edge})",
            help="restart the gateway: `modelcd down`, then `modelcd up`",
        ) from error


def _plain(cumulative: list[int]) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip([0, *cumulative], cumulative, strict=False))


class CutAnswers:
    """The number of answers cut in mid-body per service, tallied from the access log as it grows."""

    def __init__(self, gateway: Gateway, rotate_at: int) -> None:
        self._gateway = gateway
        self._rotate_at = rotate_at
        self._log = gateway.access_log
        self._older = self._log.with_name("access.log.1")
        self._tally = gateway.folder / "cuts.json"

    def read(self) -> Mapping[str, int]:
        """Return the tally per Traefik service since Traefik started; raises `MetricsError`."""
        try:
            with filelock.FileLock(self._gateway.folder / "cuts.lock", timeout=10, mode=0o600):
                return self._advance()
        except filelock.Timeout as error:
            raise MetricsError("the access log is being read by another process", help="try again") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MetricsError(
                f"the access log {self._log} cannot be read: {error!r}", help="restart the gateway"
            ) from error

    def _advance(self) -> Mapping[str, int]:
        state = json.loads(self._tally.read_text()) if self._tally.exists() else {"read": {}, "cut": {}}
        cuts, before = Counter(state["cut"]), state["read"]
        # The older one too: Traefik may have written to it until it noticed that the file was moved.
        read = {path.name: _scan(path, before, cuts) for path in (self._older, self._log) if path.exists()}
        full = self._log.name in read and read[self._log.name][1] >= self._rotate_at
        if full:
            # Forgotten before it is gone: the next log may be given the same inode.
            self._older.unlink(missing_ok=True)
            read.pop(self._older.name, None)
        now = {str(inode): offset for inode, offset in read.values()}
        if now != before:
            _save(self._tally, {"read": now, "cut": dict(cuts)})
        if full:
            os.replace(self._log, self._older)
            self._gateway.reopen_access_log()
        return cuts


def _save(path: Path, state: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(state))
    os.replace(temporary, path)


def _scan(path: Path, before: Mapping[str, int], cuts: Counter[str]) -> tuple[int, int]:
    """Add to *cuts* what *path* has since *before*; return its inode and how many bytes are read now."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        offset = before.get(str(status.st_ino), 0)
        offset = offset if offset <= status.st_size else 0
        file.seek(offset)
        while chunk := file.read(_CHUNK):
            whole = chunk[: chunk.rfind(b"\n") + 1]
            if not whole:
                break
            cuts.update(_cut_services(whole))
            offset += len(whole)
            file.seek(offset)
    return status.st_ino, offset


def _cut_services(lines: bytes) -> Iterator[str]:
    marker = b'"OriginStatus":0,'
    at = lines.find(marker)
    while at >= 0:
        start, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
        line = json.loads(lines[start:end])
        if line.get("RequestMethod") == "POST" and line.get("DownstreamStatus") != 499 and "ServiceName" in line:
            yield line["ServiceName"]
        at = lines.find(marker, end)

"""`modelcd explain` and `modelcd verify RELEASE`: what people read, what scripts get, what is drawn, what is found."""

from __future__ import annotations

import json
import shutil
import sqlite3
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lived import AT_ONCE, FAILING, GOOD, LADDER, STREAM, Life

from modelcd.adapters.journal import SqlJournal
from modelcd.cli.app import run
from modelcd.control import Control, connect
from modelcd.domain import figures
from modelcd.domain.policy import GuardKind
from modelcd.domain.records import seal
from modelcd.domain.release import Ask
from modelcd.flows import _pages
from modelcd.steps.release import ask
from modelcd.workspace import open_workspace


@dataclass(frozen=True)
class Told:
    """A workspace with releases that were promoted, rolled back and are under way, and their ids."""

    workspace: Path
    ids: dict[str, str]

    @property
    def control(self) -> Control:
        return connect(self.workspace)

    def sql(self, statements: str) -> None:
        with sqlite3.connect(open_workspace(self.workspace).journal) as other:
            other.executescript(statements)
        other.close()

    def look(self, how: str, number: int) -> int:
        records = SqlJournal(open_workspace(self.workspace).journal).read(STREAM)
        looks = [r.seq for r in records if r.entry.kind == "observed" and r.entry.release == self.ids[how]]
        return looks[number]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("explained")
    life = Life(folder / "life", {1: GOOD, 2: GOOD, 3: FAILING, 4: GOOD, 5: GOOD})
    ids = {"first": life.records[0].entry.release}
    ids["promoted"] = life.live(life.open(2, LADDER), rate=60).id
    ids["rolled back"] = life.live(life.open(3, LADDER), rate=60).id
    ids["at once"] = life.live(life.open(4, AT_ONCE)).id
    watch = life.open(5)
    ask(life.env, "m", Ask.ROLL_BACK, actor="ben")
    ids["given up"] = life.live(watch).id
    ids["under way"] = life.live(life.open(5, LADDER, again="try"), rate=60, seconds=30).id
    workspace = open_workspace(folder / "workspace")
    SqlJournal(workspace.journal).append(STREAM, 0, [record.entry for record in life.records])
    return Told(workspace.path, ids)


@pytest.fixture
def told(once: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """A copy that a test may change."""
    shutil.copytree(once.workspace, tmp_path / "workspace")
    monkeypatch.setenv("MODELCD_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return Told(tmp_path / "workspace", once.ids)


@pytest.fixture
def said(told: Told, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    def say(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            run([told.ids.get(argument, argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return say


Said = Callable[..., tuple[object, str, str]]

# -- explain -----------------------------------------------------------------------------------------------------------


def test_a_way_back_is_told_with_its_numbers_its_cost_and_what_to_do(told: Told, said: Said) -> None:
    code, out, _ = said("explain", "rolled back")

    first, by, why, *_ = out.splitlines()
    assert code == 0
    assert first.startswith("ROLLED BACK  version 3 of m in production, after ")
    assert first.endswith(" at 5 %")
    assert by.startswith("  by anna, ")
    assert why.startswith("  errors ")
    exact = told.control.explain(told.ids["rolled back"])
    (errors,) = (finding["evidence"] for finding in exact["findings"] if finding["name"] == "errors")
    bad, n = round(errors["challenger_bad"]), errors["challenger_n"]
    assert f"    failed: version 3 {100 * bad / n:.1f} % ({bad} of {n}), version 2 0.0 % (0 of " in out
    assert "evidence that it is worse  ▁" in out
    assert f"█  {figures.ratio(errors['odds'])}, bar 100 : 1" in out
    assert "requests went to version 3; " in out
    assert "The rollback was rehearsed in 0.14 s; the real one took 0.14 s." in out
    assert "with a chance of 1 %" in out
    assert f"(p {figures.chance(exact['budget']['p'])}, valid under" in out.replace("\n    ", " ")
    assert "  Its log: modelcd logs m 3 --in production\n" in out
    assert '  Try again: modelcd deliver --again "why"\n' in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_promotion_says_what_each_guard_was_certified_at(told: Told, said: Said) -> None:
    code, out, _ = said("explain", "promoted")

    assert code == 0
    assert out.startswith("PROMOTED  version 2 of m in production, after ")
    assert out.count(": within what is tolerated\n") == 3
    latency = next(f for f in told.control.explain(told.ids["promoted"])["findings"] if f["name"] == "latency")
    low, high = (figures.points(limit) for limit in latency["evidence"]["interval"])
    assert (
        f"excess {figures.points(latency['evidence']['excess'])} points (step by step), 99 % limits {low} to {high}"
        in out
    )
    assert "Certified for 50 %: " in out
    assert "  If it has to go: modelcd rollback m --in production\n" in out
    assert "Still needed" not in out


def test_a_release_under_way_says_what_it_still_needs_and_how_long_that_takes(told: Told, said: Said) -> None:
    code, out, _ = said("explain", "under way")

    assert code == 0
    assert out.startswith("UNDER WAY AT ")
    needed = {line["guard"]: line for line in told.control.explain(told.ids["under way"])["still_needed"]}
    assert needed
    for name, line in needed.items():
        assert f"  Still needed for {name}: about " in out
        assert line["seconds"] == pytest.approx(line["median"] / line["per_second"])
        assert line["per_second"] == pytest.approx(60, rel=0.15)
    assert " at the present traffic." in out.replace("\n    ", " ")
    assert "End it: modelcd rollback m" in out


def test_a_forecast_has_its_unlucky_case_where_the_judge_gives_one(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"guard": "success", "unit": "labels", "median": 8_940, "unlucky": 22_300, "per_second": 1.25}
    found = {"still_needed": [{**line, "seconds": 7_152.0, "unlucky_seconds": 17_840.0}]}
    from modelcd.cli.explaining import _needed

    text = " ".join(part.strip() for part in _needed(found))

    assert text == (
        "Still needed for success: about 9,000 more labels (if unlucky 23,000), about 119 min (if unlucky 5 h) at the"
        " present traffic."
    )


def test_no_labels_and_no_way_out_are_said(said: Said) -> None:
    from modelcd.cli.explaining import _needed

    line: dict[str, Any] = {"guard": "success", "unit": "labels", "unlucky": None, "seconds": None}
    found = {"still_needed": [{**line, "median": 300}, {**line, "median": None}]}

    assert list(_needed(found)) == [
        "  Still needed for success: about 300 more labels, no labels come at present.",
        "  Still needed for success: no number of labels in sight would settle it.",
    ]


def test_what_was_released_at_once_is_told_without_evidence(said: Said) -> None:
    code, out, _ = said("explain", "at once")

    assert code == 0
    assert out.startswith("PROMOTED  version 4 of m in production, after ")
    assert "evidence" not in out
    assert "Allowed" not in out


def test_scripts_get_the_evidence_over_time(told: Told, said: Said) -> None:
    code, out, _ = said("explain", "promoted", "--json")

    over_time = json.loads(out)["evidence_over_time"]
    assert code == 0
    assert [guard["name"] for guard in over_time["guards"]] == ["errors", "latency", "success"]
    assert over_time["looks"] == len(over_time["points"])
    assert [mark["share"] for mark in over_time["marks"]] == [5, 25, 50, 100, 100]
    assert over_time["points"][-1]["verdict"] == "pass"
    assert over_time["points"][-1]["guards"]["errors"]["certified"]
    assert "" not in [str(finding["evidence"] or "") for finding in json.loads(out)["findings"]]


def test_a_record_that_cannot_be_judged_leaves_the_rest_of_the_story(told: Told, said: Said) -> None:
    seq = told.look("promoted", 2)
    told.sql(f"UPDATE records SET body = json_set(body, '$.block.challenger.failures', 1e6) WHERE seq = {seq}")

    code, out, _ = said("explain", "promoted")

    assert code == 0
    assert out.startswith("PROMOTED  version 2 of m")
    assert f"The evidence cannot be computed again: {STREAM}: record {seq} cannot be" in out


# -- the picture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["promoted", "rolled back", "under way"])
def test_the_evidence_is_drawn_the_same_each_time(told: Told, said: Said, how: str) -> None:
    code, out, _ = said("explain", how, "--plot", "one.svg")
    said("explain", how, "--plot", "two.svg")

    drawn = Path("one.svg").read_text(encoding="utf-8")
    words = "".join(ElementTree.fromstring(drawn).itertext())
    assert code == 0
    assert out.endswith("The evidence over time is drawn in one.svg\n")
    assert drawn == Path("two.svg").read_text(encoding="utf-8")
    assert how.upper() in words
    for word in ("errors", "latency", "success", "5 %", "bar 100 : 1", "bar 20 : 1", "seconds since"):
        assert word in words
    assert "$" not in words


def test_a_picture_may_be_png(told: Told, said: Said) -> None:
    code, _, _ = said("explain", "promoted", "--plot", "one.png")

    assert code == 0
    assert Path("one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("how", "file", "message"),
    [
        ("promoted", "one.gif", "a picture is .svg or .png, got one.gif"),
        ("promoted", "one", "a picture is .svg or .png, got one"),
        ("at once", "one.svg", "can be drawn: it has not been looked at in live traffic"),
    ],
)
def test_what_cannot_be_drawn_is_refused(told: Told, said: Said, how: str, file: str, message: str) -> None:
    code, out, err = said("explain", how, "--plot", file)

    assert (code, out) == (2, "")
    assert message in err
    assert not Path(file).exists()


def test_the_page_of_prefect_has_evidence_interval_and_picture(told: Told) -> None:
    control = told.control
    endpoint, release = control._history.find(told.ids["promoted"])
    explained = control.explain(release.id)

    page = _pages.release(endpoint, release, explained)  # type: ignore[arg-type]

    (latency,) = (line for line in page.splitlines() if line.startswith("| latency "))
    assert " points (step by step), 99 % limits " in latency
    assert "█  " in latency
    assert ", bar 20 : 1 |" in latency
    before, _, image = page.partition("![evidence over time](data:image/svg+xml;base64,")
    assert before
    ElementTree.fromstring(b64decode(image.partition(")")[0]))
    assert all(line.count("|") == 7 for line in page.splitlines() if line.startswith(("| errors", "| latency")))


# -- words and blocks --------------------------------------------------------------------------------------------------


@given(
    odds=st.lists(st.floats(0, 1e6), min_size=1, max_size=200),
    gaps=st.lists(st.floats(0, 1e4), min_size=200, max_size=200),
    bar=st.floats(2, 1e4),
    width=st.integers(1, 60),
)
def test_a_full_block_stands_where_the_bar_was_reached_and_nowhere_else(
    odds: list[float], gaps: list[float], bar: float, width: int
) -> None:
    moments = [sum(gaps[:k]) for k in range(len(odds))]

    line = figures.sparkline(list(zip(moments, odds, strict=True)), bar, width)

    assert 1 <= len(line) <= width
    assert set(line) <= set(figures.BLOCKS)
    assert ("█" in line) == (max(odds) >= bar)


def test_a_line_shows_time_not_looks() -> None:
    often_at_first = [(k / 10, 1.0) for k in range(100)] + [(100.0, 50.0), (200.0, 100.0)]

    line = figures.sparkline(often_at_first, 100.0, 10)

    assert line == "▁▁▁▁▁▆▆▆▆█"


@pytest.mark.parametrize(
    ("odds", "words"),
    [
        (0, "none"),
        (1, "none"),
        (2.46, "2.5 : 1"),
        (9.97, "10 : 1"),
        (4_100.2, "4,100 : 1"),
        (1e9, "above 1,000,000 : 1"),
    ],
)
def test_odds_are_said_as_people_say_them(odds: float, words: str) -> None:
    assert figures.ratio(odds) == words


def test_an_excess_is_said_with_its_interval() -> None:
    evidence = {"excess": 0.0211, "interval": [0.0049, 0.0432], "unit": "requests"}

    assert (
        figures.excess(GuardKind.ERRORS, evidence, 0.01)
        == "excess +2.1 points (step by step), 99 % limits +0.5 to +4.3"
    )
    assert figures.excess(GuardKind.ERRORS, {**evidence, "excess": None}, 0.01) == ""


# -- verify ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["promoted", "rolled back", "under way"])
def test_verdicts_that_nobody_touched_are_recomputed_the_same(told: Told, said: Said, how: str) -> None:
    code, out, _ = said("verify", how)
    exact = said("verify", how, "--json")

    found = json.loads(exact[1])
    assert code == exact[0] == 0
    verdicts = f"{found['verdicts']:,} verdicts of release {told.ids[how]}"
    assert out == f"{verdicts} recomputed from the journal: all the same\n"
    assert (found["whole"], found["same"], found["differences"]) == (True, True, [])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("first", "it was the first version here, with none to compare it with"),
        ("at once", "its policy gives it everything at once"),
        ("given up", "it never had a share"),
    ],
)
def test_a_release_that_needed_no_verdict_says_so(told: Told, said: Said, how: str, why: str) -> None:
    code, out, _ = said("verify", how)

    assert (code, out) == (0, f"no verdict of release {told.ids[how]} was needed: {why}\n")


@pytest.mark.parametrize(
    ("statement", "trouble"),
    [
        ("UPDATE records SET actor = 'eve' WHERE seq = {0}", "record {0} was changed after it was written"),
        (
            "UPDATE records SET body = json_set(body, '$.block.challenger.failures', 0) WHERE seq = {0}",
            "record {0} was changed after it was written",
        ),
        ("UPDATE records SET body = 'oops' WHERE seq = {0}", "record {0} was changed after it was written: its body"),
        ("DELETE FROM records WHERE seq = {0}", "record {0} is missing (found {1} in its place)"),
        (
            "UPDATE records SET seq = 9999 WHERE seq = {0}; UPDATE records SET seq = {0} WHERE seq = {1};"
            "UPDATE records SET seq = {1} WHERE seq = 9999",
            "record {0} does not follow the record before it",
        ),
        ("DELETE FROM records WHERE seq = {2}", "record {2} is missing (found {3} in its place)"),
    ],
)
def test_a_record_changed_removed_or_reordered_is_named(told: Told, said: Said, statement: str, trouble: str) -> None:
    seq = told.look("rolled back", -1)
    opened = next(
        r.seq
        for r in SqlJournal(open_workspace(told.workspace).journal).read(STREAM)
        if r.entry.kind == "opened" and r.entry.release == told.ids["rolled back"]
    )
    places = (seq, seq + 1, opened, opened + 1)
    told.sql(statement.format(*places))

    code, out, err = said("verify", "rolled back")

    assert (code, err) == (1, "")
    assert out.startswith(f"{STREAM}: {trouble.format(*places)}")
    assert "all the same" not in out


def test_a_history_sealed_anew_is_found_by_what_its_blocks_come_to(told: Told, said: Said) -> None:
    journal, guilty = SqlJournal(open_workspace(told.workspace).journal), told.look("rolled back", -1)
    anew, statements = "", []
    for record in journal.read(STREAM):
        entry = record.entry
        if record.seq == guilty:
            entry.body["block"]["challenger"]["failures"] = 0  # type: ignore[index]
        sealed = seal(STREAM, record.seq, entry, anew)
        statements.append(
            f"UPDATE records SET body = json('{json.dumps(entry.body)}'), previous = '{anew}',"
            f" digest = '{sealed.digest}' WHERE seq = {record.seq};"
        )
        anew = sealed.digest
    told.sql(f"{''.join(statements)} UPDATE heads SET digest = '{anew}'")
    assert told.control.verify() == []

    code, out, _ = said("verify", "rolled back")

    assert code == 1
    assert "recomputed from the journal: 1 record differs\n" in out
    assert f"  record {guilty}, " in out
    assert "    recorded    fail\n    recomputed  inconclusive\n" in out
    doubt = f"  1 record does not say what the blocks come to, see: modelcd verify {told.ids['rolled back']}\n"
    assert doubt in said("explain", "rolled back")[1]


def test_verdicts_of_another_judge_are_compared_without_their_words(told: Told, said: Said) -> None:
    from modelcd.cli.explaining import _recomputed

    found = told.control.verify_release(told.ids["promoted"])

    assert found["judge"] == found["judged_by"]
    assert "verdicts were compared, words and numbers were not" in _recomputed({**found, "judged_by": 1})


def test_a_release_cannot_be_verified_against_a_file(said: Said) -> None:
    Path("heads.json").write_text("{}", encoding="utf-8")

    code, _, err = said("verify", "promoted", "--against", "heads.json")

    assert code == 2
    assert "--against holds the whole journal against a file" in err


def test_an_unknown_release_is_answered_with_what_there_is(said: Said) -> None:
    code, _, err = said("verify", "nothing")

    assert code == 2
    assert "no release is named 'nothing'" in err

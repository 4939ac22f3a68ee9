"""`modelcd plan` where it needs nothing that runs: what is known of the traffic, what people read, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lived import FAILING, LADDER, STREAM, Kind, Life

from modelcd.adapters.journal import SqlJournal
from modelcd.cli.app import run
from modelcd.control import connect
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.recorded import Glance, Recorded, recorded
from modelcd.domain.release import Endpoint
from modelcd.planning import Given
from modelcd.workspace import open_workspace

HUMAN = Kind(fails=50, wrong=20)
"""A version with faults: it fails at 2 % of the requests, and 5 % of its answers are wrong."""

POLICY = (
    "from modelcd import Canary, guard\n\n"
    "def correct(score, label):\n    return score == label\n\n"
    "rollout = Canary(shares=(5, 25, 50), guards=[guard.errors(), guard.latency(), guard.success(correct)])\n"
)
GIVEN = (
    *("--requests-per-minute", "600", "--error-rate", "0.01"),
    *("--success-rate", "0.9", "--labels", "0.2", "--label-delay", "10min"),
)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A release that was promoted, and one that was rolled back."""
    life = Life(tmp_path_factory.mktemp("life"), {1: HUMAN, 2: HUMAN, 3: FAILING})
    assert life.live(life.open(2, LADDER), rate=40).ending == "promoted"
    assert life.live(life.open(3, LADDER), rate=40).ending == "rolled back"
    return life


@pytest.fixture(scope="module")
def workspace(life: Life, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = open_workspace(tmp_path_factory.mktemp("planned") / "workspace")
    SqlJournal(workspace.journal).append(STREAM, 0, [record.entry for record in life.records])
    return workspace.path


@pytest.fixture(autouse=True)
def here(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELCD_WORKSPACE", str(workspace))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(here: Path) -> Path:
    """A project that was never delivered."""
    (here / "pipeline.py").write_text(
        POLICY + "\nfrom modelcd import Dataset, Model\n"
        "model = Model('newborn', artifact='m.joblib', data=Dataset('*.csv', target='y'), rollout=rollout)\n"
    )
    (here / "m.joblib").touch()
    return here


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(["plan", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_what_was_recorded_is_what_the_champion_and_its_users_did(life: Life) -> None:
    found = recorded(STREAM, life.records)
    traffic = found.traffic

    assert traffic.per_minute == pytest.approx(40 * 60, rel=0.25)
    assert traffic.errors == pytest.approx(1 / 50, abs=0.01)
    assert traffic.wrong == {"success": pytest.approx(1 / 20, abs=0.02)}
    assert traffic.labelled == pytest.approx(1.0, abs=0.1)
    assert traffic.label_delay == pytest.approx(0.0, abs=2.0)
    assert sum(traffic.latencies) == found.champion.requests
    assert found.endpoint.champion == 2
    assert len(found.glances) == 2


def test_nothing_is_known_of_what_was_never_seen() -> None:
    traffic = recorded(STREAM, []).traffic

    assert (traffic.per_minute, traffic.errors, traffic.labelled, traffic.label_delay) == (None,) * 4
    assert (traffic.wrong, traffic.latencies) == ({}, ())


@pytest.mark.parametrize("delay", [0.0, 60.0, 600.0, 3_000.0])
def test_labels_that_have_not_come_yet_are_not_taken_for_requests_without_one(delay: float) -> None:
    glances = tuple(Glance(at, at + 10.0, 100, 20 if at >= delay else 0) for at in map(float, range(0, 3_600, 10)))
    traffic = Recorded(Endpoint(STREAM), {"r": glances}, frozenset({"r"})).traffic

    assert traffic.label_delay == pytest.approx(delay, abs=1.0)
    assert traffic.labelled == pytest.approx(0.2, rel=0.02)
    assert traffic.per_minute == pytest.approx(600)


def test_a_release_without_labels_says_nothing_about_how_many_there_are() -> None:
    glances = {
        "with": tuple(Glance(at, at + 10.0, 100, 50) for at in map(float, range(0, 600, 10))),
        "without": tuple(Glance(at, at + 10.0, 100, 0) for at in map(float, range(0, 600, 10))),
    }

    assert Recorded(Endpoint(STREAM), glances, frozenset({"with"})).traffic.labelled == pytest.approx(0.5, rel=0.02)
    assert Recorded(Endpoint(STREAM), glances, frozenset({"without"})).traffic.labelled is None


def test_a_model_is_planned_on_its_recorded_traffic(capsys: pytest.CaptureFixture[str], life: Life) -> None:
    code, out, _ = said(capsys, "m")

    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("PLAN  m, 2,")
    assert lines[1].startswith("  recorded  requests a minute, errors ")
    assert all(release in out for release in recorded(STREAM, life.records).glances)
    assert "given" not in out
    assert "assumed" not in out
    assert [line.split()[0] for line in lines if " errors " in line and "pt" in line[:40]] == ["5", "25", "50"]
    assert "To 100 %: about " in out
    assert max(map(len, lines[2:])) <= 100


def test_scripts_get_every_number_and_where_it_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "m", "--labels", "0.5", "--json")

    told = json.loads(out)
    assert code == 0
    assert told["sources"] == {
        "per_minute": "recorded",
        "errors": "recorded",
        "wrong success": "recorded",
        "labelled": "given",
        "label_delay": "recorded",
        "latencies": "recorded",
    }
    assert (told["possible"], told["plan"]["hopeless"]) == (True, False)
    assert told["traffic"]["labelled"] == 0.5
    assert told["recorded"]["champion"] == 2
    assert [step["share"] for step in told["plan"]["steps"]] == [5.0, 25.0, 50.0]
    assert {need["unit"] for need in told["plan"]["steps"][0]["needs"]} == {"requests", "labels"}


def test_another_policy_is_planned_on_the_same_traffic(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "other.py").write_text("from modelcd import Canary, guard\n\nrollout = Canary((10,), [guard.errors()])\n")

    code, out, _ = said(capsys, "m", "--policy", "other.py")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if " errors " in line and "pt" in line[:40]] == ["10"]
    assert "success" not in out


def test_a_rollout_may_be_passed_as_it_is() -> None:
    policy = Canary(shares=(50,), guards=(Guard("errors", GuardKind.ERRORS, margin=0.01),))
    one, two = (
        connect().plan("m", policy=policy, given=Given(requests_per_minute=rate))["plan"]["seconds"]
        for rate in (100, 200)
    )

    assert one == pytest.approx([2 * part for part in two])


def test_a_project_that_was_never_delivered_is_asked_for_what_nobody_knows(
    capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    code, out, err = said(capsys)

    assert (code, out) == (2, "")
    assert "nothing was recorded that says how many requests come in, how often the champion fails, " in err
    assert "give --requests-per-minute 600, --error-rate 0.01, --success-rate 0.9, --labels 0.2 and " in err


def test_one_number_that_is_missing_is_asked_for_alone(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    code, _, err = said(capsys, *GIVEN[:-2])

    assert code == 2
    assert "nothing was recorded that says how late labels come" in err
    assert "help: give --label-delay 10min\n" in err


def test_what_is_given_and_what_is_assumed_is_said(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    code, out, _ = said(capsys, *GIVEN)

    assert code == 0
    assert out.startswith("PLAN  newborn, 600 requests a minute\n")
    assert (
        "  given     requests a minute, errors 1 %, success 90 %, labels for 20 % of the requests, 10 min later\n"
        "  assumed   the shape of latencies: lognormal, deviation 0.5\n"
    ) in out
    assert "recorded" not in out


def test_a_hopeless_plan_is_refused_with_what_would_make_it_possible(
    capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    code, out, _ = said(capsys, "--requests-per-minute", "2", *GIVEN[2:])

    told = " ".join(out.split())
    assert code == 1
    assert "HOPELESS success at step 1 (5 %) cannot conclude in time: it needs " in told
    assert "step_budget is 24 h. Any of these lets nine of ten conclude: margin=" in told
    assert " requests a minute; step_budget=" in told


def test_a_hopeless_plan_is_refused_for_scripts_too(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    code, out, _ = said(capsys, "--requests-per-minute", "2", *GIVEN[2:], "--json")

    assert code == 1
    assert json.loads(out)["possible"] is False


def test_the_fastest_shares_are_printed_to_be_pasted(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    code, out, _ = said(capsys, *GIVEN, "--fastest", "--exposed", "3000")
    _, told, _ = said(capsys, *GIVEN, "--fastest", "--exposed", "3000", "--json")

    chosen = json.loads(told)["fastest"]
    line = next(line for line in out.splitlines() if "Canary(" in line)
    assert code == 0
    assert line == f"  Canary(shares=({', '.join(f'{share:g}' for share in chosen['shares'])}), …)".replace(
        "), …)", ",), …)" if len(chosen["shares"]) == 1 else "), …)"
    )
    assert chosen["exposed"] <= chosen["bound"] == 3_000
    assert [step["share"] for step in json.loads(told)["plan"]["steps"]] == chosen["shares"]


def test_shares_that_nobody_can_choose_are_refused(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    code, out, _ = said(capsys, *GIVEN, "--fastest", "--exposed", "20")

    assert code == 1
    assert "No shares conclude while a bad version gets at most 20 requests" in out
    assert "The most careful that conclude give it " in " ".join(out.split())


def test_without_a_bound_the_present_shares_set_it(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    _, out, _ = said(capsys, *GIVEN, "--json")
    _, chosen, _ = said(capsys, *GIVEN, "--fastest", "--json")

    worst = max(bad["exposed"][1] for bad in json.loads(out)["plan"]["regressions"])
    assert json.loads(chosen)["fastest"]["bound"] == pytest.approx(worst)
    assert json.loads(chosen)["plan"]["seconds"][0] <= json.loads(out)["plan"]["seconds"][0]


@pytest.mark.parametrize(
    ("arguments", "message", "help"),
    [
        (("nobody",), "no model is named 'nobody'", "did you mean"),
        (("m", "--exposed", "100"), "--exposed N bounds what --fastest may choose", "--fastest --exposed 2000"),
        (("m", "--label-delay", "soon"), "--label-delay soon is no time", "10min"),
        (("m", "--labels", "20"), "--labels cannot be 20", "0.2 is one in five"),
        (("m", "--error-rate", "nan"), "--error-rate cannot be nan", "0 or more"),
        (("m", "--requests-per-minute", "0"), "--requests-per-minute cannot be 0", "above 0"),
        (("m", "--policy", "othr.py"), "there is no file", "rollout = Canary"),
        ((), "there is no pipeline.py in ", "modelcd init NAME"),
    ],
)
def test_what_cannot_be_planned_is_answered_in_one_paragraph(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str, help: str
) -> None:
    code, out, err = said(capsys, *arguments)

    assert (code, out) == (2, "")
    assert message in err
    assert help in err or message.startswith("no model")
    assert "Traceback" not in err


def test_a_guard_of_which_nothing_is_known_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    revenue = Guard("revenue", GuardKind.METRIC, 2.0, low=0.0, high=50.0)
    policy = Canary(shares=(50,), guards=(Guard("errors", GuardKind.ERRORS, margin=0.01), revenue))

    told = connect().plan("m", policy=policy)

    assert (told["possible"], told["plan"]["unplanned"]) == (None, ["revenue"])


def test_blue_green_has_nothing_to_plan(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "at_once.py").write_text("from modelcd import Canary\n\nrollout = Canary(shares=())\n")

    code, out, _ = said(capsys, "m", "--policy", "at_once.py")
    asked, _, err = said(capsys, "m", "--policy", "at_once.py", "--fastest")

    assert code == 0
    assert "no guard decides anything before that" in out
    assert asked == 2
    assert "--fastest --exposed 2000" in err


def test_a_plan_writes_nothing_into_the_journal(workspace: Path) -> None:
    journal = SqlJournal(open_workspace(workspace).journal)
    before: Any = journal.read(STREAM)

    connect().plan("m", soonest=True)

    assert journal.read(STREAM) == before

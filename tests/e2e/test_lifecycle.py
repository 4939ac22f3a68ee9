"""The life of a model by the command line: the generated project, its second version, back, forth and retrained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from desk import MODEL, Cli, Delivered, delivered_into, replace

from modelcd.errors import UsageError
from modelcd.testing.traffic import eventually

pytestmark = pytest.mark.timeout(600)

AT_ONCE = replace("pipeline.py", "shares=(5, 25, 50)", "shares=()")
"""A policy that waits for nobody's requests."""


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """A workspace of this file's own: its versions are moved."""
    with delivered_into(tmp_path_factory.mktemp("lifecycle")) as made:
        yield made


def row_of(delivered: Delivered) -> str:
    """Return one row as it is sent."""
    rows = pd.read_csv(delivered.project / "data/measurements.csv")
    return str(rows.drop(columns=["benign"]).iloc[0].to_json())


@pytest.fixture(scope="module")
def at_once(delivered: Delivered) -> dict[str, Any]:
    """What a delivery came to after nothing but the policy was edited."""
    AT_ONCE(delivered.project)
    return dict(delivered.modelcd.told("deliver", "--json", cwd=delivered.project))


def test_a_change_of_the_policy_does_not_train_again(delivered: Delivered, at_once: dict[str, Any]) -> None:
    assert (at_once["ending"], at_once["version"]) == ("nothing new", delivered.told["version"])


@pytest.fixture(scope="module")
def second(delivered: Delivered, at_once: dict[str, Any]) -> dict[str, Any]:
    """The second version in production, made by an edit of an imported file."""
    replace("features.py", '"median"', '"mean"')(delivered.project)
    return dict(delivered.modelcd.told("deliver", "--json", "--reason", "means, not medians", cwd=delivered.project))


def test_a_change_of_an_imported_file_trains_again(delivered: Delivered, second: dict[str, Any]) -> None:
    assert second["ending"] == "promoted"
    assert second["version"] == 2
    assert delivered.modelcd.champion() == second["version"]


def test_status_says_what_serves_where(delivered: Delivered, second: dict[str, Any]) -> None:
    lines = {line["environment"]: line for line in delivered.modelcd.told("status", MODEL, "--json")}

    assert lines["production"]["release"] == second["release"]
    assert lines["production"]["under_way"] is None
    assert lines["production"]["url"].endswith(f"/production/{MODEL}")


def test_history_says_who_why_and_how_it_ended(delivered: Delivered, second: dict[str, Any]) -> None:
    lines = delivered.modelcd.told("history", MODEL, "--in", "production", "--json")

    assert (lines[0]["release"], lines[0]["ending"]) == (second["release"], "promoted")
    assert lines[0]["reason"] == "means, not medians"
    assert lines[0]["by"]


def test_history_says_what_served_at_a_moment_and_who_put_it_there(
    delivered: Delivered, second: dict[str, Any]
) -> None:
    opened = delivered.modelcd.told("history", MODEL, "--in", "production", "--json")[0]["opened"]
    asked = ("history", MODEL, "--in", "production", "--at", opened)

    (then,) = delivered.modelcd.told(*asked, "--json")
    text = delivered.modelcd(*asked)

    assert (then["version"], then["put_there"]["release"]) == (delivered.told["version"], delivered.told["release"])
    assert then["under_way"]["release"] == second["release"]
    assert f"version {delivered.told['version']} gets 100 %" in text.stdout
    assert f"under way: release {second['release']}" in text.stdout


def test_a_release_is_explained(delivered: Delivered, second: dict[str, Any]) -> None:
    told = delivered.modelcd.told("explain", second["release"][:4], "--json")
    text = delivered.modelcd("explain", second["release"])

    assert told["version"] == second["version"]
    assert text.stdout.startswith(f"PROMOTED  version {second['version']} of {MODEL} in production")


def test_a_delivery_is_explained_too(delivered: Delivered, second: dict[str, Any]) -> None:
    delivery = delivered.modelcd.newest_delivery()
    told = delivered.modelcd.told("explain", delivery["delivery"], "--json")
    text = delivered.modelcd("explain", delivery["delivery"])

    assert [step["name"] for step in told["steps"]][:2] == ["data", "prepare"]
    assert text.stdout.startswith(f"PROMOTED  delivery {delivery['delivery']} of {MODEL}, version {second['version']}")
    assert "acceptance" in text.stdout


def test_versions_and_their_difference_are_shown(delivered: Delivered, second: dict[str, Any]) -> None:
    versions = delivered.modelcd.told("versions", MODEL, "--json")
    told = delivered.modelcd.told("diff", MODEL, "1", str(second["version"]), "--json")

    assert versions[0]["version"] == second["version"]
    assert "production" in versions[0]["serves"]
    assert told["data"] == {"verdict": "same", "why": "", "changes": {}}
    changed = {file["file"]: file["diff"] for file in told["code"]["files"]}
    assert sorted(changed) == ["features.py", "pipeline.py"], "training and policy are both kept"
    assert any(line.startswith("+") and '"mean"' in line for line in changed["features.py"])


def test_a_prediction_is_made_and_its_truth_is_kept(delivered: Delivered, second: dict[str, Any]) -> None:
    answer = delivered.modelcd.told("predict", MODEL, row_of(delivered))
    receipt = delivered.modelcd.told("feedback", MODEL, f"{answer['prediction']}=true")

    row = json.loads(row_of(delivered))
    assert delivered.modelcd.control.predict(MODEL, row)["scores"] == answer["scores"]
    assert delivered.modelcd.control.predict(MODEL, pd.DataFrame([row, row]))["scores"] == answer["scores"] * 2
    with pytest.raises(UsageError, match="rows are mappings from column to value, got str"):
        delivered.modelcd.control.predict(MODEL, "mean_radius")  # type: ignore[arg-type]
    wrong = delivered.modelcd("predict", MODEL, json.dumps({**json.loads(row_of(delivered)), "mean_radius": "large"}))

    assert wrong.returncode == 2, wrong.stderr
    assert "mean_radius" in wrong.stderr
    assert answer["version"] == str(second["version"])
    assert 0 <= answer["scores"][0] <= 1
    assert receipt["joined"] + receipt["waiting"] == 1
    log = delivered.modelcd.control._platform.environment("production").predictions

    def met() -> bool:
        return answer["prediction"] in {pair.prediction for pair in log.labelled(f"production/{MODEL}")}

    assert eventually(met, True), "the server did not know the gateway that sent the request"


def test_a_truth_is_changed_by_who_says_so_and_why(delivered: Delivered, second: dict[str, Any]) -> None:
    key = delivered.modelcd.told("predict", MODEL, row_of(delivered))["prediction"]
    delivered.modelcd.told("feedback", MODEL, f"{key}=true")

    refused = delivered.modelcd("feedback", MODEL, f"{key}=false", "=true", f"{key[:-1]}x=[1]")
    assert (refused.returncode, json.loads(refused.stdout)["refused"]) == (1, 3)
    assert "error: 3 labels were refused" in refused.stderr
    corrected = delivered.modelcd.told("feedback", MODEL, f"{key}=false", "--correct", "--reason", "a wrong file")
    withdrawn = delivered.modelcd.told("feedback", MODEL, key, "--withdraw", "--reason", "a wrong file")
    assert (corrected["corrected"], withdrawn["withdrawn"]) == (1, 1)


def test_clients_that_others_wrote_ask_through_the_gateway(delivered: Delivered, second: dict[str, Any]) -> None:
    from tritonclient.http import InferenceServerClient, InferInput

    row = json.loads(row_of(delivered))
    (url,) = (line["url"] for line in delivered.modelcd.control.status(MODEL) if line["environment"] == "production")
    expected = delivered.modelcd.control.predict(MODEL, row)["scores"]
    tensors = [InferInput(name, [1], "FP64") for name in row]
    for tensor, value in zip(tensors, row.values(), strict=True):
        tensor.set_data_from_numpy(np.array([value], dtype=np.float64))
    with InferenceServerClient(url.removeprefix("http://")) as client:
        assert client.is_model_ready(MODEL, str(second["version"]))
        found = client.infer(MODEL, tensors, request_id="mine", request_compression_algorithm="gzip")
    csv = pd.DataFrame([row]).to_csv(index=False)
    invoked = httpx.post(f"{url}/invocations", content=csv, headers={"content-type": "text/csv"})

    assert found.as_numpy("scores").tolist() == pytest.approx(expected)
    assert found.get_response()["id"] == "mine"
    assert invoked.json()["predictions"] == pytest.approx(expected)
    assert httpx.head(f"{url}/readyz").status_code == 200


def test_names_that_do_not_exist_are_answered_with_the_nearest(delivered: Delivered, second: dict[str, Any]) -> None:
    for arguments, message in (
        (("status", "tumor"), "did you mean 'tumour'?"),
        (("promote", MODEL, "99"), "no version is named '99'"),
        (("rollback", MODEL, "--in", "prodution"), "did you mean 'production'?"),
        (("diff", MODEL, "1", "99"), "no version is named '99'"),
        (("history", MODEL, "--at", "yesterday"), "'yesterday' is no time"),
        (("explain", "zzzz"), "no release is named 'zzzz'"),
        (("logs", MODEL, "99"), "no version is named '99'"),
        (("logs", "tumor", "1"), "did you mean 'tumour'?"),
    ):
        ended = delivered.modelcd(*arguments)

        assert ended.returncode == 2, arguments
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr


def test_retrain_without_new_data_says_so(delivered: Delivered, second: dict[str, Any]) -> None:
    told = delivered.modelcd.told("retrain", "--json", cwd=delivered.project)

    assert told["ending"] == "nothing new"
    assert "no new data" in told["why"]


def test_that_there_is_nothing_new_is_known_before_anything_heavy_is_imported(
    delivered: Delivered, second: dict[str, Any]
) -> None:
    looking = Cli(delivered.modelcd.workspace, {"PYTHONPROFILEIMPORTTIME": "1"})
    ended = looking("deliver", cwd=delivered.project)
    lines = (line for line in ended.stderr.splitlines() if line.startswith("import time:"))
    imported = {line.rpartition("|")[2].strip() for line in lines}

    assert ended.stdout.startswith("NOTHING NEW")
    assert "modelcd.flows.deliver" in imported
    assert not {"prefect", "mlflow", "great_expectations", "pandas", "sklearn"} & imported


@pytest.fixture(scope="module")
def back(delivered: Delivered, second: dict[str, Any]) -> dict[str, Any]:
    return dict(delivered.modelcd.told("rollback", MODEL, "--reason", "complaints", "--json"))


def test_rollback_brings_the_version_before_back(
    delivered: Delivered, second: dict[str, Any], back: dict[str, Any]
) -> None:
    assert (back["ending"], back["version"], back["takes_out"]) == ("rolled back", 1, second["version"])
    assert " rolled version " in back["why"]
    assert back["why"].endswith(" back: complaints")
    assert delivered.modelcd.told("predict", MODEL, row_of(delivered))["version"] == "1"


def test_what_needed_no_verdict_is_verified_as_that(
    delivered: Delivered, second: dict[str, Any], back: dict[str, Any]
) -> None:
    for release, why in ((second, "its policy gives it everything at once"), (back, "it is a rollback")):
        ended = delivered.modelcd("verify", release["release"])

        assert ended.returncode == 0, ended.stdout
        assert ended.stdout.startswith(f"no verdict of release {release['release']} was needed: {why}")


def test_a_rollback_never_leads_to_what_was_taken_out_or_never_served(
    delivered: Delivered, back: dict[str, Any]
) -> None:
    ended = delivered.modelcd("rollback", MODEL)

    assert ended.returncode == 2
    assert f"{MODEL} has no earlier version in production to go back to that was not itself taken out" in ended.stderr
    assert delivered.modelcd.champion() == back["version"]


@pytest.fixture(scope="module")
def forth(delivered: Delivered, second: dict[str, Any], back: dict[str, Any]) -> dict[str, Any]:
    arguments = ("promote", MODEL, str(second["version"]), "--again", "it was the airport", "--json")
    return dict(delivered.modelcd.told(*arguments))


def test_what_was_taken_out_needs_a_reason_to_come_again(
    delivered: Delivered, second: dict[str, Any], back: dict[str, Any]
) -> None:
    ended = delivered.modelcd("promote", MODEL, str(second["version"]))

    assert ended.returncode == 1
    assert f"release {back['release']}: complaints" in ended.stderr
    assert "--again" in ended.stderr


def test_promote_releases_a_proven_version(delivered: Delivered, second: dict[str, Any], forth: dict[str, Any]) -> None:
    assert (forth["ending"], forth["version"]) == ("promoted", second["version"])
    assert delivered.modelcd.champion() == second["version"]


def test_promote_of_what_serves_does_nothing(delivered: Delivered, forth: dict[str, Any]) -> None:
    before = delivered.modelcd.control.history(MODEL)

    told = delivered.modelcd.told("promote", MODEL, str(forth["version"]), "--json")

    assert (told["ending"], told["why"]) == ("nothing new", f"version {forth['version']} serves production already")
    assert delivered.modelcd.control.history(MODEL) == before


def test_retrain_with_new_data_releases_another_version(delivered: Delivered, forth: dict[str, Any]) -> None:
    rows = pd.read_csv(delivered.project / "data/measurements.csv")
    rows.head(40).to_csv(delivered.project / "data/more.csv", index=False)

    told = delivered.modelcd.told("retrain", "--json", cwd=delivered.project)

    assert told["ending"] == "promoted"
    assert told["version"] > forth["version"]


def test_the_journal_is_whole_at_the_end(delivered: Delivered) -> None:
    ended = delivered.modelcd("verify")

    assert ended.returncode == 0
    assert ended.stdout.startswith("the journal is whole: ")


# MLflow 3.17 uses what SQLAlchemy 2.1 will drop.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_who_lives_in_mlflows_pages_knows_what_serves_and_why(
    delivered: Delivered, back: dict[str, Any], forth: dict[str, Any]
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{delivered.modelcd.workspace}/registry/mlflow.db")
    champion = str(delivered.modelcd.champion())
    put_there = next(r for r in delivered.modelcd.control.history(MODEL) if str(r.get("version")) == champion)
    # The page of the model is written after those of its versions.
    row = f"| production | **version {champion}** |"
    eventually(lambda: row in str(client.get_registered_model(MODEL).description), True, 90.0)
    version, model = client.get_model_version(MODEL, champion), client.get_registered_model(MODEL)
    run = client.get_run(version.run_id)

    assert version.description.startswith("In production since ")
    assert (version.tags["modelcd.by"], version.tags["modelcd.gates"]) == (put_there["by"], "passed")
    assert (model.tags["modelcd.production"], str(model.aliases["production"])) == (f"version {champion}", champion)
    assert model.description.startswith("Predicts `benign`.")
    assert {each.tags[0].value for each in run.inputs.dataset_inputs} == {"training", "evaluation"}
    assert run.data.tags["modelcd.state"] == "in production"
    taken_out = client.get_model_version(MODEL, str(forth["version"]))
    assert (
        f"**Production: rolled back to version {back['version']}** (release {back['release']})" in taken_out.description
    )
    assert "complaints" in taken_out.description

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sweeper.run_folder.folder import RunFolder
from sweeper.tracking.sweep_run import Tracker
from sweeper.tracking.view import TAG, link_to_view, view_of
from tests.sweeper.small import ONE_SETTING, PRESET, fresh_store, make_objectives, sweep_with


def state_of(value: str) -> dict[str, Any]:
    """The state in a tag, as MLflow's UI reads it."""
    packed = json.loads(value)["state"]
    assert packed.startswith("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))
    return state


def charts_of(**changes: Any) -> list[dict[str, Any]]:
    charts: list[dict[str, Any]] = state_of(view_of(sweep_with(**changes), "one", 0)[1])["compareRunCharts"]
    return charts


def test_a_view_shows_the_trials_of_one_sweep_on_its_axes() -> None:
    key, value = view_of(sweep_with("abc"), "small-1", 5)
    assert key == "mlflow.sharedViewState.abc"
    assert {k: v for k, v in json.loads(value).items() if k != "state"} == {
        "name": "small-1", "createdAt": 5, "updatedAt": 5
    }  # fmt: skip
    state = state_of(value)
    assert state["searchFilter"] == "tags.sweep_id = 'abc' and tags.role = 'trial'"
    scatter, parallel = state["compareRunCharts"]
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("final/val_asr_excess", "final/val_acc")
    assert parallel["selectedParams"] == ["defense.threshold", "defense.mixing"]
    assert {chart["metricSectionId"] for chart in (scatter, parallel)} == {state["compareRunSections"][0]["uuid"]}


def test_parameters_that_some_trials_lack_are_no_axis() -> None:
    """MLflow would not draw the trials that lack one."""
    conditional = PRESET["defense"] | {"late_weight": {"float": [0.1, 0.9], "when": {"mixing": "attention"}}}
    (_, parallel) = charts_of(defense=conditional)
    assert parallel["selectedParams"] == ["defense.threshold", "defense.mixing"]
    several = charts_of(defense=[PRESET["defense"], {"name": "none", "epochs": 1}])
    assert [chart["type"] for chart in several] == ["SCATTER"]


def test_an_attackers_sweep_has_attack_success_against_detection() -> None:
    scatter, parallel = charts_of(
        defense=ONE_SETTING,
        scenarios=[{"attack": "blend", "poison_rate": {"categorical": [0.05, 0.1]}, "target": 0}],
        objectives=make_objectives(("val_asr", "maximize")),
    )
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("final/detection_auroc", "final/val_asr")
    assert parallel["selectedParams"] == ["blend.poison_rate"]


def test_a_view_of_many_scenarios_fits_into_a_tag() -> None:
    scenarios = [{"attack": "badnets", "name": f"a-long-name-of-scenario-{n}", "poison_rate": 0.1} for n in range(12)]
    assert len(view_of(sweep_with(scenarios=scenarios, seeds=list(range(5))), "n" * 100, 0)[1]) < 5000


def test_a_view_is_written_once_and_has_a_link(tmp_path: Path) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    client, sweep = MlflowClient(tracking_uri=uri), sweep_with("abc")
    assert link_to_view(uri, sweep, "http://here:1/") is None
    Tracker(uri, RunFolder(tmp_path / "run"), sweep, lambda *_: [])
    experiment = client.get_experiment_by_name("small")
    assert json.loads(experiment.tags[TAG + "abc"])["name"] == "run"
    client.set_experiment_tag(experiment.experiment_id, TAG + "abc", "changed by somebody")
    Tracker(uri, RunFolder(tmp_path / "run"), sweep, lambda *_: [])
    assert client.get_experiment_by_name("small").tags[TAG + "abc"] == "changed by somebody"
    link = link_to_view(uri, sweep, "http://here:1/")
    place = f"http://here:1/#/experiments/{experiment.experiment_id}/runs"
    assert link == f"{place}?compareRunsMode=CHART&viewStateShareKey=abc"


def test_a_store_that_refuses_a_view_tracks_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MlflowException("no", error_code=7)  # PERMISSION_DENIED

    uri = fresh_store(tmp_path / "mlflow.db")
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    tracker = Tracker(uri, RunFolder(tmp_path / "run"), sweep_with("abc"), lambda *_: [])
    assert (tracker.behind, tracker.rest_s) == ([], None)
    assert link_to_view(uri, sweep_with("abc"), "http://here:1") is None

"""What MLflow is told of a sweep and its trials."""

import json
from typing import Any

import pytest

from sweeper.run_folder.record import TrialRecord
from sweeper.tracking.content import (
    data_input,
    final_figures,
    metric_prefix,
    milliseconds,
    record_params,
    record_tags,
    sweep_params,
    sweep_tags,
)
from tests.sweeper.small import DATA, control_row, make_objectives, record_of, row_with, spec_with, sweep_with

TWO = [{"attack": "badnets", "poison_rate": 0.1, "target": 3}, {"attack": "blend", "poison_rate": 0.05, "alpha": 0.3}]


# Figures


def test_accuracy_is_the_mean_and_the_rest_is_what_is_worst_for_whoever_reads_it() -> None:
    """Means over seeds first. Of the attacker's cost the worst is what shows most: many changed images, low PSNR."""
    rows = [
        row_with(scenario="a", seed=0, val_acc=0.9, val_asr=0.1, test_acc=0.8, test_asr=0.2, control_asr=1.0,
                 detection_auroc=0.9, changed_share=0.1, psnr=30.0, ssim=0.9),
        row_with(scenario="a", seed=1, val_acc=0.7, val_asr=0.5, test_acc=0.6, test_asr=0.4, control_asr=0.9,
                 detection_auroc=0.7, changed_share=0.1, psnr=32.0, ssim=0.94),
        row_with(scenario="b", seed=0, val_acc=0.6, val_asr=0.2, test_acc=0.5, test_asr=0.9, control_asr=0.85,
                 detection_auroc=1.0, changed_share=0.3, psnr=20.0, ssim=0.99),
    ]  # fmt: skip
    assert final_figures(rows) == pytest.approx(
        {
            "val_acc": (0.8 + 0.6) / 2, "val_asr": 0.3, "test_acc": (0.7 + 0.5) / 2, "test_asr": 0.9,
            "val_asr_excess": (0.05 + 0.45) / 2, "test_asr_excess": 0.9 - 0.06,
            "control_asr": 0.85, "detection_auroc": 0.8, "changed_share": 0.3, "psnr": 20.0, "ssim": 0.92,
        }
    )  # fmt: skip


def test_balanced_accuracy_is_the_mean_and_the_worst_class_that_of_the_worst_scenario() -> None:
    rows = [
        row_with(scenario="a", seed=0, val_balanced_acc=0.9, val_min_class_acc=0.4, test_min_class_acc=0.3),
        row_with(scenario="a", seed=1, val_balanced_acc=0.7, val_min_class_acc=0.2, test_min_class_acc=0.1),
        row_with(scenario="b", seed=0, val_balanced_acc=0.6, val_min_class_acc=0.5, test_balanced_acc=0.55),
    ]
    wanted = {"val_balanced_acc": 0.7, "val_min_class_acc": 0.3, "test_min_class_acc": 0.2, "test_balanced_acc": 0.55}
    assert final_figures(rows).items() >= {name: pytest.approx(value) for name, value in wanted.items()}.items()


def test_a_figure_of_zero_counts_and_one_that_is_missing_does_not() -> None:
    rows = [row_with(seed=0, val_asr=0.0), row_with(seed=1, val_asr=0.4), row_with(seed=2, val_asr=None)]
    assert final_figures(rows)["val_asr"] == pytest.approx(0.2)
    assert "detection_auroc" not in final_figures(rows), "no row has it"
    assert final_figures([]) == {}


# Tags and parameters


def test_a_trial_is_found_by_all_that_it_met() -> None:
    record = record_of("t0003", spec=spec_with(scenarios=TWO, seeds=[0, 4]))
    assert record.config
    assert record_tags(record, DATA["class_names"]) == {
        "role": "trial", "trial_id": "t0003", "config_id": record.config.setting_key, "defense": "vab",
        "mlflow.runName": "t0003 vab vs badnets, blend", "attack": "badnets, blend", "poison_rate": "0.05, 0.1",
        "seed": "0, 4", "target": "0 (a), 3 (d)",
    }  # fmt: skip


def test_with_one_seed_the_name_of_a_run_tells_it() -> None:
    assert record_tags(record_of(spec=spec_with(seeds=[4])), ())["mlflow.runName"] == "t0000 vab vs badnets seed 4"
    control = record_tags(record_of("c0001", "control"), ())
    assert (control["role"], control["mlflow.runName"]) == ("control", "c0001 none vs badnets seed 0")


def test_a_proposal_that_was_refused_has_what_was_proposed() -> None:
    record = TrialRecord("t0001", "trial", None, {}, {"vab.mix_epochs": 0})
    assert record_tags(record, DATA["class_names"]) == {
        "role": "trial",
        "trial_id": "t0001",
        "mlflow.runName": "t0001 refused",
    }
    assert record_params(record, DATA["class_names"]) == {"vab.mix_epochs": 0}


def test_parameters_of_each_scenario_stand_under_its_name() -> None:
    scenarios = [*TWO, {"attack": "sig", "labels": "all_to_one"}]
    params = record_params(record_of(spec=spec_with(scenarios=scenarios)), ())
    assert params["defense.threshold"] == 0.1
    assert (params["badnets.poison_rate"], params["badnets.target"], params["badnets.size"]) == (0.1, 3, 3)
    assert (params["blend.poison_rate"], params["blend.alpha"], params["sig.target"]) == (0.05, 0.3, 0)
    assert not [name for name in params if ".class." in name], "names are not known"
    aimless = record_of(spec=spec_with(scenarios=[{"attack": "badnets", "labels": "all_to_all"}]))
    known = record_params(aimless, DATA["class_names"])
    assert known["badnets.target"] is None, "all-to-all has none"
    assert "badnets.class.target" not in known
    assert record_tags(aimless, DATA["class_names"])["target"] == "none"


def test_classes_have_their_names() -> None:
    tact = {"attack": "tact", "target": 2, "source": 4, "cover_classes": [0, 9]}
    record = record_of(spec=spec_with(scenarios=[*TWO, tact]))
    params = record_params(record, DATA["class_names"])
    assert {name: value for name, value in params.items() if ".class." in name} == {
        "badnets.class.target": "d", "blend.class.target": "a", "tact.class.target": "c", "tact.class.source": "e",
        "tact.class.cover_classes": "a, j",
    }  # fmt: skip
    assert (params["tact.target"], params["tact.source"]) == (2, 4), "numbers stay as they were"
    assert record_tags(record, DATA["class_names"])["target"] == "0 (a), 2 (c), 3 (d)"


def test_a_metric_of_several_runs_tells_whose_it_is() -> None:
    one, seeds, attacks = (
        record_of(spec=spec_with(**changes)) for changes in ({}, {"seeds": [0, 1]}, {"scenarios": TWO})
    )
    assert metric_prefix(one, ("badnets", 0)) == ""
    assert metric_prefix(seeds, ("badnets", 1)) == "badnets/seed1/"
    assert metric_prefix(attacks, ("blend", 0)) == "blend/seed0/"


def test_a_sweep_is_found_by_its_name_and_its_data() -> None:
    sweep = sweep_with("seven", objectives=make_objectives(("val_acc", "maximize"), ("val_asr", "minimize")))
    assert sweep_tags(sweep) == {
        "sweep": "small", "sweep_id": "seven", "data_fingerprint": "data", "git_commit": "123",
    }  # fmt: skip
    without = sweep | {"provenance": sweep["provenance"] | {"git_commit": None}}
    assert sweep_tags(without)["git_commit"] == "unknown", "MLflow takes no null"
    params = sweep_params(sweep)
    assert params["objectives"] == "maximize val_acc, minimize val_asr"
    assert (params["data.source"], params["model"], params["sampler"]) == ("shapes", "tiny", "random")
    assert params["computed_in"] == "float32 on CPUs"
    assert params["seeds"] == [0]
    assert not any("trials" in name for name in params), "a resumed sweep may raise the number"


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [
        ("shapes", "shapes", "shapes"),
        ("folder:/data/cats", "cats", "folder"),
        ("folder:/data/cats/", "cats", "folder"),
        ("parquet:/data/*.parquet", "*.parquet", "parquet"),
    ],
)
def test_a_data_set_is_called_by_the_end_of_its_path(source: str, name: str, kind: str) -> None:
    sweep: dict[str, Any] = sweep_with()
    sweep = sweep | {"preset": sweep["preset"] | {"data": {"source": source}}, "data_fingerprint": "f" * 50}
    dataset = data_input(sweep).dataset
    assert (dataset.name, dataset.source_type, dataset.digest) == (name, kind, "f" * 36)
    assert json.loads(dataset.source) == {"source": source}


def test_mlflow_counts_milliseconds() -> None:
    assert milliseconds(1_700_000_000.4567) == 1_700_000_000_456


def test_a_control_is_described_by_its_own_rows() -> None:
    figures = final_figures([control_row(control_asr=0.97, val_asr=0.97)])
    assert (figures["val_acc"], figures["val_asr"], figures["control_asr"]) == (0.9, 0.97, 0.97)

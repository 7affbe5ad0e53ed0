"""The choice of a setting, and what is written and told of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.analysis.selection import NothingQualifies
from sweeper.cli.next_step import confirmation_lines
from sweeper.deploy.bounds import Bounds
from sweeper.deploy.deployment import read_deployment
from sweeper.deploy.select import select_setting
from sweeper.run_folder.certificate import Certificate, write_certificate
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.certificates import certificate_of, good, replicate_rows, step
from tests.sweeper.small import control_row, row_with, sweep_with, write_rows
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError


def params_of(defense: str, **changes: Any) -> dict[str, Any]:
    return {f"param.defense.{key}": value for key, value in DEFENSES[defense].Params(**changes).as_dict().items()}


ROWS = [
    control_row(),
    row_with("t0000", "a", val_acc=0.9, val_asr=0.1, **params_of("vab", threshold=0.2)),
    row_with("t0001", "b", defense="bcu", val_acc=0.7, val_asr=0.05, **params_of("bcu")),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A sweep of two defenses, of which no store knows."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = RunFolder.create(tmp_path / "sweep")
    folder.write_sweep(sweep_with())
    write_rows(folder, ROWS)
    return folder


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({}, r"^Give --max-excess, .*, or --max-asr, or both\.$"),
        ({"max_excess": -0.5}, r"--max-excess must lie in \[0, 1\], but got -0.5"),
        ({"max_asr": 0.1, "max_excess": float("inf")}, r"--max-excess must lie in \[0, 1\], but got inf"),
        ({"max_asr": 1.5}, r"--max-asr must lie in \[0, 1\], but got 1.5"),
        ({"max_asr": 0.1, "min_acc": -0.1}, r"--min-acc must lie in \[0, 1\], but got -0.1"),
        ({"max_asr": 0.1, "min_class_acc": 1.01}, r"--min-class-acc must lie in \[0, 1\], but got 1.01"),
        ({"max_asr": 0.1, "poison_rate": 10}, r"--poison-rate must lie in \[0, 1\], but got 10"),
        ({"max_asr": float("nan")}, r"--max-asr must lie in \[0, 1\], but got nan"),
        ({"max_asr": 0.1, "confidence": 1.0}, r"--confidence must lie in \[0.5, 1\), but got 1"),
    ],
)
def test_bounds_are_shares(bounds: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Bounds(**bounds)


def test_the_setting_is_written_with_what_was_asked_of_it(folder: RunFolder) -> None:
    rows = [row | {"val_min_class_acc": 0.4, "val_balanced_acc": 0.7} for row in ROWS]
    write_rows(folder, rows)
    bounds = Bounds(max_asr=0.2, min_acc=0.5, min_class_acc=0.3)
    selected = select_setting(folder, bounds)
    assert (selected.bounds, selected.selection.point["config_id"]) == (bounds, "a")
    assert selected.searched == "threshold=0.2 mixing=attention"
    assert (selected.confirmed, selected.unlabelled, selected.tracked, selected.replaced) == (None, False, False, False)
    content = yaml.safe_load(folder.deploy.read_text())
    assert (content["defense"], content["source"]["config_id"]) == ("vab", "a")
    assert (content["images"]["background"], content["images"]["max_value"]) == ("white", None)
    asked = {"max_asr": 0.2, "min_acc": 0.5, "min_class_acc": 0.3, "poison_rate": None, "over": "worst",
             "confidence": None, "defense": None}  # fmt: skip
    assert asked.items() <= content["chosen_for"].items()
    assert (content["val_balanced_acc"], content["val_min_class_acc"]) == (0.7, 0.4)
    assert [row["val_min_class_acc"] for row in content["evidence"]] == [0.4]
    assert (content["lost_classes"], content["certified"]) == ([], None)


def test_a_second_selection_takes_the_place_of_the_first(folder: RunFolder) -> None:
    select_setting(folder, Bounds(0.2))
    selected = select_setting(folder, Bounds(0.2, defense="bcu"))
    assert (selected.replaced, selected.unlabelled) == (True, True)
    before = folder.deploy.read_text()
    assert yaml.safe_load(before)["defense"] == "bcu"
    with pytest.raises(NothingQualifies, match=r"Nearest is .*deploy\.yaml still holds an earlier selection"):
        select_setting(folder, Bounds(max_asr=0.01))
    assert folder.deploy.read_text() == before


def test_what_fresh_seeds_made_of_the_setting_is_told_beside_it(folder: RunFolder) -> None:
    again = [row_with(f"k000{seed}", config, role="confirmation", seed=seed, val_acc=acc + seed / 100, val_asr=0.2)
             for config, acc in (("a", 0.8), ("b", 0.3)) for seed in (1, 2, 3)]  # fmt: skip
    write_rows(folder, [*ROWS, *again])
    confirmed = select_setting(folder, Bounds(0.2)).confirmed
    assert confirmed is not None
    assert (confirmed["config_id"], confirmed["seeds"], confirmed["val_acc"]) == ("a", 3, pytest.approx(0.82))


def test_a_folder_that_cannot_be_written_is_one_sentence(folder: RunFolder) -> None:
    folder.deploy.mkdir()
    with pytest.raises(ConfigError, match=r"deploy\.yaml cannot be written: Is a directory"):
        select_setting(folder, Bounds(0.2))


# At a confidence


def test_the_certified_setting_is_written_with_what_was_certified(folder: RunFolder) -> None:
    write_rows(folder, [*ROWS, *replicate_rows("a", [0.0] * 32, **params_of("vab", threshold=0.2))])
    write_certificate(folder.path, good())
    selected = select_setting(folder, Bounds(0.2, confidence=0.9))
    assert selected.selection.guarantee is not None
    content = yaml.safe_load(folder.deploy.read_text())
    assert (content["defense"], content["params"]["threshold"]) == ("vab", 0.2)
    assert (content["chosen_for"]["confidence"], content["chosen_for"]["max_excess"]) == (0.9, 0.2)
    assert (content["certified"]["confidence"], content["certified"]["bound"]) == (0.95, 0.1)
    assert [row["role"] for row in content["evidence"]] == ["trial", *["replicate"] * 32]
    assert read_deployment(folder.deploy).defense == "vab"


def test_a_deployment_of_an_earlier_version_is_read(folder: RunFolder) -> None:
    select_setting(folder, Bounds(0.2))
    content = yaml.safe_load(folder.deploy.read_text())
    del content["certified"]
    folder.deploy.write_text(yaml.safe_dump(content | {"excess_upper": 0.1, "min_class_acc_lower": 0.5}))
    assert read_deployment(folder.deploy).params["threshold"] == 0.2


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (None, r"no test was begun in this run folder\. Run sweeper confirm \S+ --max-excess 0.2 --min-acc 0.5 "
               r"--confidence 0.9 first\.$"),
        (certificate_of([step(0)], None, decided=False), r"^The test is not decided .* 1 counted trainings: vab a "
               r"under test after 1 replicate\. To go on: sweeper confirm \S+ --max-excess 0.1 --confidence 0.95\.$"),
        (certificate_of([step(0, 1.0)], None), r"^Nothing was certified for .*: vab a given up after 1 replicate\.$"),
    ],
)  # fmt: skip
def test_without_a_certificate_nothing_is_written(
    folder: RunFolder, certificate: Certificate | None, text: str
) -> None:
    if certificate is not None:
        write_certificate(folder.path, certificate)
    with pytest.raises(NothingQualifies, match=text):
        select_setting(folder, Bounds(0.2, min_acc=0.5, confidence=0.9))
    assert not folder.deploy.exists()


def test_a_damaged_certificate_is_one_sentence(folder: RunFolder) -> None:
    (folder.path / "certificate.json").write_text("{")
    with pytest.raises(ConfigError, match=r"certificate\.json is damaged: "):
        select_setting(folder, Bounds(0.2, confidence=0.9))


def test_beside_a_setting_of_the_search_it_is_told_how_the_test_stands(folder: RunFolder) -> None:
    bounds = Bounds(0.2, min_acc=0.5)
    before, select = f"sweeper confirm {folder.path}", f"sweeper select {folder.path}"
    assert confirmation_lines(folder, select_setting(folder, bounds)) == [
        f"The winner of a search looks better than it is; before deploying: {before} --max-excess 0.2 --min-acc 0.5 "
        f"--confidence 0.95, and then {select} --max-excess 0.2 --min-acc 0.5 --confidence 0.95"
    ]
    write_certificate(folder.path, good())
    assert confirmation_lines(folder, select_setting(folder, bounds)) == [
        "vab a is certified: mean worst test_asr_excess <= 0.1 at confidence 0.95.",
        f"Select it: {select} --max-excess 0.1 --confidence 0.95",
    ]
    write_certificate(folder.path, certificate_of([step(0)], None, decided=False))
    assert confirmation_lines(folder, select_setting(folder, bounds))[1].startswith(f"To go on: {before} ")


def test_a_sweep_of_older_numerics_gets_no_command_that_would_be_refused(folder: RunFolder) -> None:
    folder.write_sweep(sweep_with() | {"numerics": 1})
    assert confirmation_lines(RunFolder(folder.path), select_setting(RunFolder(folder.path), Bounds(0.2))) == []

"""``run``: what can be known before the first trial is one sentence, exit 2."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.cli import main
from tests.sweeper.cli.calls import SMALL, call, image_folder, picture, sentence, write_preset


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.yaml"], ["nowhere.yaml: there is no such file", "presets are ablation.yaml", "quick.yaml"]),
        (["quick", "--set", "colour=red"], ["quick: colour: unknown key"]),
        (["quick", "--set", "search.trails=3"], ["quick: search.trails: unknown key"]),
        (["quick", "--set", "defense.treshold=0.3"], ["quick: defense: treshold is no parameter here"]),
        (["quick", "--set", "scenarios.1.size=3"], ["--set scenarios.1.size=3", "no key scenarios.1.size"]),
        (["quick", "--set", "seeds"], ["--set seeds", "key=value"]),
        (["quick", "--set", "search.trials=many"], ["search.trials", "'many'"]),
        (["quick", "--set", "defense.threshold=1.2"], ["threshold must be a number at least 0 and at most 1"]),
        (["quick", "--set", "scenarios.0.poison_rate=1"], ["poison_rate must be", "below 1"]),
        (["quick", "--set", "scenarios.0.attack=magic"], ["attack must be one of badnets, blend", "magic"]),
        (["quick", "--set", "search.sampler=grid"], ["grid needs steps", "vab.threshold is continuous"]),
        (["quick", "--set", "seeds=[1"], ["--set seeds", "no valid YAML"]),
        (["quick", "--trials", "0"], ["search.trials", "greater than or equal to 1"]),
        (["quick", "--time-budget", "-1"], ["search.time_budget", "greater than 0"]),
        (["quick", *SMALL, "--set", "scenarios.0.target=10"], ["target must be a class from 0 to 9, but got 10"]),
        (["quick", *SMALL, "--set", "scenarios.0.size=17"], ["size 17", "16x16"]),
        (["attacks_cpu", "--set", "scenarios.6.cover_rate=0"], ["scenarios.6", "cover_rate must be", "above 0"]),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.0.poison_rate=0.95"],
            ["scenarios.0 (badnets): A poison_rate of 0.95 is 190 samples, but only 180 can be poisoned by badnets"],
        ),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.3={attack: wanet, poison_rate: 0.8, cover_rate: 0.3}"],
            ["scenarios.3 (wanet): 160 poisoned and 60 cover samples are needed, but only 200 samples can be used"],
        ),
        (
            [
                "attacks_cpu",
                *SMALL,
                "--set",
                "scenarios.3={attack: wanet, poison_rate: {categorical: [0.1, 0.8]}, "
                "cover_rate: {categorical: [0.3, 0.1]}}",
            ],
            ["scenarios.3 (wanet): 160 poisoned and 60 cover samples are needed, but only 200 samples can be used"],
        ),
        (["attacks_cpu", *SMALL, "--set", "scenarios.9.source=10"], ["source must be a class from 0 to 9, but got 10"]),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.2.poison_rate=0.01"],
            [
                "scenarios.2 (sig): A poison_rate of 0.01 rounds to no sample of 20 in the target class, 0 (disc); ",
                "allowed is 0.025 or more",
            ],
        ),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.1.trigger=gone.png"],
            ["scenarios.1 (blend): The trigger image", "gone.png cannot be read: No such file"],
        ),
        (["quick", "--set", "data.source=mnist"], ["data.source must be shapes, cifar10", "'mnist'"]),
        (["quick", "--set", "data.source=parquet:gone.parquet"], ["gone.parquet"]),
        (["quick", "--set", "data.source=folder:gone"], ["gone"]),
        (["cifar10"], ["cifar-10-batches-py"]),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], parts: list[str]) -> None:
    text = sentence(call("run", *arguments))
    assert all(part in text for part in parts), text
    assert not Path("runs").exists()


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    broken = image_folder(tmp_path / "images") / "train" / "class1" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert "2.png" in sentence(call("run", "quick", "--set", f"data.source=folder:{tmp_path / 'images'}", *NO_SIZES))


def test_one_class_is_too_few(tmp_path: Path) -> None:
    image_folder(tmp_path / "images", classes=1)
    text = sentence(call("run", "quick", "--set", f"data.source=folder:{tmp_path / 'images'}", *NO_SIZES))
    assert "class" in text


NO_SIZES = ("--set", "data.train_size=null", "--set", "data.test_size=null")


@pytest.mark.parametrize(
    ("columns", "part"),
    [({"label": [0, 1, 0, 1]}, "image"), ({"img": None, "label": [0, 2, 0, 2]}, "label")],
    ids=["no image column", "labels with a gap"],
)
def test_parquet_that_holds_no_classified_images(tmp_path: Path, columns: dict[str, Any], part: str) -> None:
    content = picture(tmp_path / "one.png").read_bytes()
    table = {name: values or [content] * 4 for name, values in columns.items()}
    for split in ("train", "test"):
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.table(table), tmp_path / "data" / f"{split}.parquet")
    assert part in sentence(call("run", "quick", "--set", f"data.source=parquet:{tmp_path / 'data'}", *NO_SIZES))


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: x\ndata: {source: shapes\nmodel: 3\n")
    text = sentence(call("run", "broken.yaml"))
    assert text.startswith("broken.yaml: no valid YAML in line 3")


def test_an_output_folder_that_holds_another_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.yaml").write_text("x: 1\n")
    text = sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", "old"))
    assert "old already holds files" in text
    assert (tmp_path / "old" / "sweep.yaml").read_text() == "x: 1\n"


@pytest.mark.parametrize("out", ["file/run", "file", "/proc/nowhere/run"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    assert f"{out} cannot be written" in sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", out))


@pytest.mark.parametrize(
    ("variable", "uri"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9"),
        ("OPTUNA_STORAGE", "postgresql://me:secret@127.0.0.1:9/x"),
    ],
)
def test_a_server_that_is_away_is_found_out_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, uri: str
) -> None:
    monkeypatch.setenv(variable, uri)
    text = sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", "run"))
    assert "127.0.0.1:9" in text
    assert "secret" not in text
    assert not (tmp_path / "run" / "sweep.yaml").exists()


def test_without_arguments_the_default_preset_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(main, "app", lambda: seen.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    main.main()
    monkeypatch.setattr(sys, "argv", ["sweep.py", "select", "x"])
    main.main()
    assert seen == [["sweep.py", "run", "quick.yaml"], ["sweep.py", "select", "x"]]

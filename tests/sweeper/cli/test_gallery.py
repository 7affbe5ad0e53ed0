"""``gallery``; its pictures, pixel by pixel, are in tests/sweeper/test_gallery.py."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from sweeper import gallery
from tests.sweeper.cli.calls import call, sentence, write_preset
from tests.sweeper.small import (
    fresh_store,
)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--set", "data=5", "--data", "shapes"), "--set data.source=shapes: attacks_cpu.yaml has no key data.source"),
        (("--data", "mnist"), "data.source must be shapes, cifar10"),
    ],
)
def test_a_gallery_of_nothing_is_one_sentence(arguments: tuple[str, ...], text: str) -> None:
    assert text in sentence(call("gallery", *arguments))


GALLERY = {"data": {"source": "shapes", "train_size": 100, "test_size": 40}}


def test_gallery_draws_attacks_and_tracks_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "out").mkdir()
    uri = fresh_store(tmp_path / "out" / "mlflow.db")  # where the command looks for it
    attacks = [
        {"attack": "badnets", "poison_rate": {"categorical": [0.04, 0.1]}, "target": 2},
        {"attack": "blend", "name": "faint", "alpha": 0.05, "poison_rate": 0.05},
        {"attack": "wanet", "poison_rate": 0.1, "cover_rate": 0.1},
    ]
    preset = write_preset(tmp_path / "p.yaml", **GALLERY, scenarios=attacks)
    least = ("--set", "search={scenarios: one, min_poisoned: 4}")  # 3 images of badnets are too few
    for _ in range(2):  # the second time the experiment is there
        result = call("gallery", "--preset", preset, *least, "--set", "data.train_size=80", "--out", "out/pictures.png")
        assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "pictures.png") as image:
        assert (image.format, image.width > image.height) == ("PNG", True)
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("gallery").experiment_id])
    assert [(run.info.status, run.data.tags["role"]) for run in runs] == [("FINISHED", "gallery")] * 2
    run = runs[0]
    assert run.data.params == {
        "data.source": "shapes", "badnets.poison_rate": "0.1", "faint.poison_rate": "0.05", "wanet.poison_rate": "0.1",
        "badnets.target": "2 (square)", "faint.target": "0 (disc)", "wanet.target": "0 (disc)",
    }  # fmt: skip
    shares = {"badnets": 8 / 80, "faint": 4 / 80, "wanet": 16 / 80}
    assert set(run.data.metrics) == {f"{name}/{part}" for name in shares for part in ("changed_share", "psnr", "ssim")}
    assert {name: run.data.metrics[f"{name}/changed_share"] for name in shares} == pytest.approx(shares)
    assert run.data.metrics["faint/psnr"] > run.data.metrics["badnets/psnr"]
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["pictures.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"p.yaml", "out"}, "artifacts lie beside the store"


def test_gallery_says_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = write_preset(tmp_path / "p.yaml", **GALLERY)

    def refused(*arguments: str) -> str:
        return sentence(call("gallery", "--preset", *arguments))

    assert "data.source must be shapes, cifar10" in refused(preset, "--data", "mnist")
    assert "gone.yaml: there is no such file" in refused("gone.yaml")
    for out in (".", "picture.docx"):
        assert f"--out must end in .png, but got {out}" in refused(preset, "--out", out)
    (tmp_path / "file").write_text("")
    assert "file/x.png cannot be written" in refused(preset, "--out", "file/x.png")
    assert "size 20 with inset 0 does not fit images of 16x16" in refused(preset, "--set", "scenarios.0.size=20")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    (tmp_path / "folder.png").mkdir()
    assert "folder.png cannot be written" in refused(preset, "--out", "folder.png")
    quiet = [{"attack": "badnets", "poison_rate": 0.0}, {"attack": "tact", "source": 10}]
    accuracy = [{"metric": "val_acc", "direction": "maximize"}]
    clean = write_preset(tmp_path / "clean.yaml", **GALLERY, scenarios=quiet, objectives=accuracy)
    text = refused(clean, "--out", "x.png")
    assert text.startswith("2 parts of the preset do not fit the data. scenarios.0 (badnets): badnets has no image to")
    assert "scenarios.1 (tact): source must be a class from 0 to 9, but got 10." in text
    assert not (tmp_path / "x.png").exists()


def test_gallery_leaves_out_the_attacks_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds of misfit: a source class too small, parameters that do not fit the images or the classes, a rate too
    low to count, and what shows only once the set is poisoned.
    """
    uri = fresh_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    attacks = [
        {"attack": "badnets", "target": "cross"},
        {"attack": "tact", "poison_rate": 0.5, "cover_rate": 0.1},
        {"attack": "badnets", "name": "large", "size": 17},
        {"attack": "sig", "target": "crosses", "poison_rate": 0.5},
        {"attack": "blend", "poison_rate": 0.004},
        {"attack": "blend", "name": "faint", "alpha": 0.0001},
        {"attack": "wanet", "name": "quiet", "poison_rate": 0.0},
    ]
    bcu = {"name": "bcu", "unlabelled": "folder:gone"}
    objectives = [{"metric": "val_acc", "direction": "maximize"}]
    preset = write_preset(tmp_path / "p.yaml", **GALLERY, scenarios=attacks, defense=bcu, objectives=objectives)
    result = call("gallery", "--preset", preset, "--out", "x.png")
    assert result.exit_code == 0, result.output
    left_out = [line for line in result.output.splitlines() if line.startswith("Left out")]
    assert [line.split(": ")[0] for line in left_out] == [
        "Left out, scenarios.1 (tact)", "Left out, scenarios.2 (large)", "Left out, scenarios.3 (sig)",
        "Left out, scenarios.4 (blend)", "Left out, scenarios.5 (faint)", "Left out, scenarios.6 (quiet)",
    ]  # fmt: skip
    assert "none is called 'crosses'; there are disc, ring, square, frame, triangle, cross, bar" in left_out[2]
    assert "Did you mean cross?" in left_out[2]
    assert "A poison_rate of 0.5 is 50 samples, but only 10 can be poisoned by tact." in left_out[0]
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("gallery").experiment_id])
    assert {key for key in run.data.params if key.endswith(".target")} == {"badnets.target"}
    assert run.data.params["badnets.target"] == "5 (cross)"
    assert run.data.tags["left_out"].startswith(
        "6 parts of the preset do not fit the data. scenarios.1 (tact): A poison"
    )


def test_gallery_whose_experiment_was_deleted_is_drawn_without_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(gallery.EXPERIMENT)
    client.delete_experiment(experiment)
    result = call("gallery", "--preset", write_preset(tmp_path / "p.yaml", **GALLERY), "--out", "x.png")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    said = lines.index(
        "The MLflow experiment gallery was deleted; restore it: "
        f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {experiment}"
    )
    assert lines[said + 1] == "The picture is drawn without MLflow."
    assert lines[-1] == "Written: x.png"
    assert (tmp_path / "x.png").exists()


def test_gallery_finds_out_before_it_poisons_that_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setattr(gallery, "example_of", lambda *_: pytest.fail("an attack was made"))
    text = sentence(call("gallery", "--preset", write_preset(tmp_path / "p.yaml", **GALLERY), "--out", "x.png"))
    assert "127.0.0.1:9 (MLFLOW_TRACKING_URI) cannot be used" in text
    assert "secret" not in text

"""The window of V&B's warm-up, on data so small that no figure means something."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks import trainings, warmup_window
from tests.benchmarks.here import Here
from tests.trainers.defenses.vab_small import small, task
from trainers.data import ImageSet
from trainers.seeding import seeded


def test_a_table_and_a_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    seen: list[dict[Any, Any]] = []
    work = warmup_window.run
    monkeypatch.setattr(warmup_window, "run", lambda job: seen.append(work(job)) or seen[-1])
    picture = tmp_path / "window.png"
    assert warmup_window.main(["--small", "--workers", "1", "--moments", "1", "2", "--picture", str(picture)]) == 0
    assert [(row["attack"], row["seed"]) for row in seen] == [
        ("badnets", 0), ("badnets", 1), ("blend", 0), ("blend", 1),
    ]  # fmt: skip
    assert all(0 <= row[steps, moments] <= 1 for row in seen for steps in (2, 4) for moments in (1, 2))
    assert any(row[4, 1] != row[4, 2] for row in seen)
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    lines = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")]
    assert [cell for cell in lines if cell != "-----"] == ["steps", "2", "4"] * 2
    assert out.count(" ± ") == 2 * 2 * 2


def test_images_are_normalised_as_those_of_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "mobilenetv3_small_050"
    save_file(timm.create_model(name, num_classes=7).state_dict(), tmp_path / "own.safetensors")
    seen: list[trainings.Job] = []

    def run(job: trainings.Job) -> dict[Any, Any]:
        seen.append(job)
        return {"attack": job.label, "seed": 0, (2, 1): 0.5}

    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(warmup_window, "run", run)
    changes = (
        "data.train_size=100", "data.test_size=60", "data.image_size=32", "seeds=[0]",
        f"model={{name: 'timm:{name}', weights: {tmp_path / 'own.safetensors'}}}",
    )  # fmt: skip
    asked = ["--steps", "2", "--moments", "1", "--workers", "1", "--picture", str(tmp_path / "window.png")]
    assert warmup_window.main([*asked, *(word for change in changes for word in ("--set", change))]) == 0
    model = seen[0].config.model
    assert model.mean == tuple(timm.get_pretrained_cfg(name).mean)
    assert model.weights_digest is not None, "seeds depend on it in a sweep"
    assert trainings.load(seen[0].preset).fingerprint == seen[0].config.data_fingerprint


def test_what_is_watched_is_the_score_of_the_defense() -> None:
    """The suspicion of a warm-up with three moments is made of the entropies after its 2nd, 4th and 6th step."""
    params = small(warmup_steps=6, warmup_rounds=0, score_moments=3)
    images = torch.randint(256, (60, 3, 8, 8), dtype=torch.uint8, generator=seeded(1))
    data = ImageSet(images, torch.arange(60) % 4, tuple("abcd"))
    defense = warmup_window.Watched(params, task(data), {2, 4, 6})
    _, report = next(defense.epochs())
    mean = torch.stack([defense.entropies[step] for step in (2, 4, 6)]).mean(0)
    expected = 1 - (mean - mean.min()) / (mean.max() - mean.min())
    assert report.suspicion is not None
    assert report.suspicion.allclose(expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--steps", "0"], "--steps and --moments must be at least 1"),
        (["--data", "nowhere"], "data.source must be shapes, cifar10"),
    ],
)
def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        warmup_window.main(arguments)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err

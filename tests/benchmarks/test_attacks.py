"""The benchmark of attacks, on data and training too small for any figure to mean something."""

from typing import Any

import pytest

from benchmarks import attacks, trainings
from search_spaces.loader import apply_overrides, read_preset
from sweeper.preset.spec import validate
from tests.benchmarks.here import Here
from trainers.attacks import ATTACKS

PRESET = "attacks_cpu.yaml"
SIZES = ["data.train_size=200", "data.test_size=100", "model.width=4", "control.epochs=1"]
DEFENSE = ["defense.warmup_steps=2", "defense.mix_epochs=1", "defense.suppression_epochs=1"]
TRAINING = {
    "dynamic": ["mask_epochs=1", "pattern_epochs=1"],
    "cl": ["surrogate_epochs=1", "steps=2"],
    "narcissus": ["surrogate_epochs=1", "passes=1", "step_size=4"],
    "entropy_aware": ["rounds=1", "surrogate_steps=2"],
}


def overrides() -> list[str]:
    """What makes the preset small."""
    names = [scenario["attack"] for scenario in read_preset(PRESET)["scenarios"]]
    own = [f"scenarios.{names.index(name)}.{change}" for name, changes in TRAINING.items() for change in changes]
    return [*SIZES, *DEFENSE, *own]


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return apply_overrides(read_preset(PRESET), overrides(), PRESET)


def job(preset: dict[str, Any], number: int, seed: int, defended: bool) -> trainings.Job:
    spec = validate(preset, PRESET)
    return attacks.job_of(preset, spec, number, seed, trainings.load(preset).fingerprint, defended)


def number_of(preset: dict[str, Any], attack: str) -> int:
    return [scenario["attack"] for scenario in preset["scenarios"]].index(attack)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_of_the_preset_is_measured(small: dict[str, Any], attack: str) -> None:
    number = number_of(small, attack)
    row = attacks.run(job(small, number, seed=1, defended=False))
    assert (row["scenario"], row["seed"], row["rate"]) == (attack, 1, small["scenarios"][number]["poison_rate"])
    poisoned = row["rate"] * (20 if ATTACKS[attack].rate_of_target else 200)
    cover = validate(small, PRESET).scenario_blocks[number].values.get("cover_rate", 0)
    if attack == "dynamic":  # where the preset leaves it to the attack
        cover = cover or 0.1
    assert row["changed_share"] == pytest.approx((poisoned + 200 * cover) / 200)
    assert 5 < row["psnr"] < 60
    assert 0 < row["ssim"] < 1
    assert 0 <= row["control_asr"] <= 1
    assert 0 < row["control_acc"] <= 1
    assert row["seconds"] > 0
    assert "val_asr" not in row


def test_the_defense_is_measured_too(small: dict[str, Any]) -> None:
    row = attacks.run(job(small, number_of(small, "blend"), seed=0, defended=True))
    assert all(0 <= row[name] <= 1 for name in ("val_acc", "val_asr", "asr_floor", "detection_auroc"))
    again = attacks.run(job(small, number_of(small, "blend"), seed=0, defended=True))
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in row.items() if k != "seconds"}


def test_of_what_the_preset_searches_the_first_value_counts(small: dict[str, Any]) -> None:
    searched = small | {"scenarios": [{"attack": "blend", "alpha": {"categorical": [0.3, 0.2]}}, {"attack": "badnets"}]}
    spec = validate(searched, PRESET)
    for number, name in enumerate(("blend", "badnets")):
        defended, control = attacks.trials_of(spec, number, seed=7, fingerprint="data")
        assert [(s.name, seed) for s, seed in defended.runs()] == [(name, 7)]
        assert [(s.name, seed) for s, seed in control.runs()] == [(name, 7)]
        assert (defended.defense, control.defense, control.params["epochs"]) == ("vab", "none", 1)
        assert control.scenarios == defended.scenarios
    first = small["defense"]["mixing"]["categorical"][0]
    assert defended.params["mixing"] == first
    assert attacks.trials_of(spec, 0, 7, "data")[0].scenarios[0].params["alpha"] == 0.3


def test_the_table_has_a_line_for_each_attack_and_names_missed_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    changes = [part for change in overrides() for part in ("--set", change)]
    assert attacks.main(["--only", "badnets", "--seeds", "0", "1", "--no-defense", "--workers", "1", *changes]) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines() if "control ASR" in line] == [
        "badnets, seed 0", "badnets, seed 1",
    ]  # fmt: skip
    head, _, line, *rest = printed.out.splitlines()
    cells = dict(zip(*([part.strip() for part in row.strip("| ").split("|")] for row in (head, line)), strict=True))
    assert (cells["attack"], cells["rate"], cells["changed"]) == ("badnets", "0.1", "0.100")
    assert "±" in cells["control ASR"]
    assert (cells["val_asr"], cells["AUROC"]) == ("-", "-")
    asr = float(cells["control ASR"].split()[0])
    assert rest == ["", f"Missed: badnets: control ASR {asr:.3f}, below 0.9"]


def test_an_attack_that_the_preset_has_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        attacks.main(["--only", "badnet", "blend"])
    assert caught.value.code == 2
    assert "--only: attacks_cpu.yaml has no badnet; it has badnets, blend" in capsys.readouterr().err

"""V&B on a long tail, so small that no figure means something."""

import pytest

from benchmarks import trainings, unequal_classes
from tests.benchmarks.here import Here

SMALL = [
    "data.train_size=200", "data.test_size=60", "data.imbalance=4", "model.width=4", "control.epochs=1", "seeds=[3, 4]",
    "defense.warmup_steps={categorical: [1, 2]}", "defense.warmup_rounds=0", "defense.mix_epochs=1",
    "defense.suppression_epochs=0", "scenarios=[{attack: badnets}]",
]  # fmt: skip


def test_both_scopes_at_both_lengths_beside_no_defense(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    options = [part for change in SMALL for part in ("--set", change)]
    seen: list[trainings.Job] = []
    work = unequal_classes.run

    def run(job: trainings.Job) -> dict[str, object]:
        seen.append(job)
        figures = dict.fromkeys(unequal_classes.FIGURES, job.config.repeats[0] / 10)
        return work(job) if len(seen) < 3 else {"attack": "badnets", "label": job.label, "seed": 3, **figures}

    monkeypatch.setattr(unequal_classes, "run", run)
    assert unequal_classes.main(["--data", "shapes", *options, "--workers", "1"]) == 0
    assert len({job.config.key for job in seen}) == len(seen) == 2 * 5
    chosen = {(job.config.params["split_scope"], job.config.params["warmup_steps"]) for job in seen
              if job.config.defense == "vab"}  # fmt: skip
    assert chosen == {(scope, steps) for scope in ("set", "class") for steps in (1, 2)}
    out = capsys.readouterr().out
    assert "111 training images; of each class: 20, 17, 15, 13, 11, 9, 8, 7, 6, 5." in out
    lines = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith(("| s", "| n"))]
    assert lines == ["setting", "no defense", *(f"split_scope={scope} warmup_steps={steps}"
                                               for scope in ("set", "class") for steps in (1, 2))]  # fmt: skip


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["--data", "nowhere"], "data.source must be shapes, cifar10"),
        (["--data", "shapes", "--set", "data.imbalance=0"], "imbalance must be a number at least 1"),
    ):
        with pytest.raises(SystemExit) as caught:
            unequal_classes.main(arguments)
        assert caught.value.code == 2
        assert text in capsys.readouterr().err

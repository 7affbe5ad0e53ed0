from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
import pytest
from matplotlib.figure import Figure

from search_spaces.loader import apply_overrides, read_preset
from sweeper.cluster.fleet import Fleet
from sweeper.preset.spec import SweepSpec, validate
from sweeper.report import plots
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FINISHED, TrialRecord
from sweeper.running.ledger import Follower, Ledger
from sweeper.running.searcher import SweepSearcher
from sweeper.running.stopper import SweepStopper
from sweeper.running.study_file import open_study
from tests.sweeper.small import roomy
from trainers.trial import TrialConfig

TINY = [
    "data.train_size=200", "data.test_size=100", "model.width=4", "defense.mix_epochs=2",
    "defense.suppression_epochs=1", "defense.warmup_steps=4", "control.epochs=2",
]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that were saved, still open."""
    figures: list[Figure] = []
    save = Figure.savefig

    def note(figure: Figure, *where: Any, **how: Any) -> None:
        figures.append(figure)
        save(figure, *where, **how)

    monkeypatch.setattr(Figure, "savefig", note)
    monkeypatch.setattr(plots.plt, "close", lambda _: None)
    yield figures
    monkeypatch.undo()
    plt.close("all")


@pytest.fixture
def make_spec() -> Callable[..., SweepSpec]:
    """A preset of the package, with settings on top."""

    def make(*overrides: str, preset: str = "quick.yaml") -> SweepSpec:
        return validate(apply_overrides(read_preset(preset), list(overrides), preset), preset)

    return make


@pytest.fixture
def make_searcher(tmp_path: Path) -> Callable[..., tuple[SweepSearcher, optuna.Study]]:
    """A searcher over a study in a file, without Ray."""

    def make(
        spec: SweepSpec,
        time_budget_s: float | None = None,
        fleet: Fleet | None = None,
        workers: int | None = None,
        said: Callable[[str], None] = lambda _text: None,
        followers: Sequence[Follower] = (),
    ) -> tuple[SweepSearcher, optuna.Study]:
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"workers": workers})})
        study = open_study(spec, tmp_path / "study.db")
        ledger = Ledger(RunFolder(tmp_path), {}, followers)
        stopper = SweepStopper(time_budget_s, lambda: ledger.broken is not None)
        return SweepSearcher(spec, study, "data", ledger, stopper, fleet or roomy(), spec.search.trials, said), study

    return make


@pytest.fixture
def make_row(make_spec: Callable[..., SweepSpec]) -> Callable[..., dict[str, Any]]:
    """A row of trials.parquet; figures and keys by name."""

    def make(trial_id: str = "t0000", **values: Any) -> dict[str, Any]:
        spec = make_spec()
        config: TrialConfig = spec.trial(lambda _name, searched: searched.corners()[0], "data")
        run = (config.scenarios[0].name, 0)
        record = TrialRecord(trial_id, values.pop("role", "trial"), config, {run: "control"}, status=FINISHED)
        record.add_epoch(run, {"epoch": 9, "stage": "mix", "images_seen": 1, "seconds": 1.0},
                         {"poison_share": 0.1, "n_eval": 90})  # fmt: skip
        row = record.rows({"control": 1.0})[0]
        figures = {"val_acc": 0.8, "val_asr": 0.1, "asr_floor": 0.05, "test_acc": 0.79, "test_asr": 0.12}
        return row | figures | {"config_id": f"setting-{trial_id}", "test_asr_floor": 0.05} | values

    return make

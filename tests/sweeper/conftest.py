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
from sweeper.running.ledger import Follower, Ledger
from sweeper.running.searcher import SweepSearcher
from sweeper.running.study_file import open_study
from tests.sweeper.small import searcher_over

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
        study = open_study(spec, tmp_path / "study.db")
        ledger = Ledger(RunFolder(tmp_path), {}, followers)
        return searcher_over(spec, study, ledger, time_budget_s, fleet, workers, said), study

    return make

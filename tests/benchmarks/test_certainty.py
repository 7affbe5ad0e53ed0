"""The simulated tests: laws by their means, and a few sweeps of each kind."""

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks import certainty
from benchmarks.certainty import Cell, Score, cells, missed, most_wrong, simulate
from benchmarks.certainty_laws import GOOD, NULLS, failing, share_of, shares


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("mean", [0.05, 0.2])
def test_a_null_law_has_no_lower_mean_than_the_bound(name: str, mean: float) -> None:
    losses = NULLS[name](np.random.default_rng(0), mean, (50, 40, 30))
    assert losses.shape == (50, 40, 30)
    assert losses.min() >= 0
    assert losses.max() <= 1
    error = losses.mean(axis=-1).std() / np.sqrt(50 * 40)
    assert losses.mean() > mean - 4 * error
    assert losses.mean() < 1.15 * mean


def test_populations() -> None:
    rng = np.random.default_rng(0)
    assert shares("first half bad", rng, 0.1, 2, 3).tolist() == [[0.4, 0.4, 0.0]] * 2
    assert shares("only last good", rng, 0.1, 1, 3).tolist() == [[0.4, 0.4, 0.0]]
    assert shares("trap", rng, 0.1, 1, 2).tolist() == [[share_of(0.1), 0.01]]
    searched = shares("search", rng, 0.1, 500, 3)
    assert searched.shape == (500, 3)
    assert (searched == 0.0).mean() > (searched == 0.05).mean() > (searched == 0.4).mean() > 0
    assert failing(rng, 0.0, (20_000,)).mean() == pytest.approx(GOOD, abs=0.001)
    assert failing(rng, share_of(0.1), (50_000,)).mean() == pytest.approx(0.1, abs=0.006)


def test_what_is_worse_than_its_bar_is_said() -> None:
    null, good = Cell("null", "Bernoulli", 3, 0.1, 0.05, None, 400), Cell("power", "all good", 3, 0.1, 0.05, None, 400)
    assert most_wrong(null) == pytest.approx(0.05 + 2 * 0.0109, abs=1e-4)
    assert list(missed({null: Score(0.07, 0.07, 40), good: Score(1.0, 0.0, 57)})) == []
    told = list(missed({null: Score(0.08, 0.08, 40), good: Score(1.0, 0.0, 58)}))
    assert ["0.0800 false certificates" in told[0], "58.0 replicates" in told[1], len(told)] == [True, True, 2]


def test_a_cell_comes_out_the_same_again() -> None:
    cell = Cell("power", "all good", 1, 0.1, 0.05, None, 30)
    score = simulate(cell)
    assert score == simulate(cell)
    assert (score.certified, score.wrong) == (1.0, 0.0)
    assert 38 < score.replicates < 46


def test_the_command_prints_and_writes_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certainty.main(["--sweeps", "1", "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    assert "| a=0.1, delta=0.05: Bernoulli " in printed.out
    assert printed.err.count("\n") == len(cells(1))
    assert (tmp_path / "new" / "certainty.md").read_text(encoding="utf-8") == printed.out
    with (tmp_path / "new" / "certainty.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3 * 4 + 10 + 7
    assert {row["part"] for row in rows} == {"null", "power", "futility"}
    with pytest.raises(SystemExit):
        certainty.main(["--sweeps", "0"])

"""The table of real trainings, in miniature."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks import replay_table
from benchmarks.replay_table import LATE, Job
from benchmarks.trainings import load
from trainers.trial import run_trial


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return replay_table.jobs(small=True)


def test_a_trunk_has_settings_that_differ_in_what_late_stages_read(jobs: list[Job]) -> None:
    assert [(job.trunk, len(job.configs)) for job in jobs] == [(None, 1), (None, 1), *[(0, 2)] * 2, *[(1, 2)] * 2]
    for job in jobs[2:]:
        first, second = job.searched
        defense = job.configs[0].defense
        assert {config.defense for config in job.configs} == {defense}
        differing = {key.partition(".")[2] for key in first if first[key] != second[key]}
        assert differing
        assert differing <= set(LATE[defense]["searched"])


@pytest.mark.parametrize("defense", LATE)
def test_settings_of_a_trunk_have_the_figures_of_trainings_of_their_own(jobs: list[Job], defense: str) -> None:
    job = next(job for job in jobs if job.configs[0].defense == defense)
    rows = replay_table.train(job)
    for config in job.configs:
        alone = [asdict(result.measurement) for result in run_trial(config, load(job.preset))]
        own = [row for row in rows if row["config_id"] == config.setting_key]
        assert [row["final"] for row in own] == [False] * (len(alone) - 1) + [True]
        ignored = ("seconds", "val_class_counts")
        assert [{name: row[name] for name in alone[0] if name not in ignored} for row in own] == [
            {name: value for name, value in figures.items() if name not in ignored} for figures in alone
        ]
    assert len({row["val_acc"] for row in rows if row["final"]}) + len({row["val_asr"] for row in rows}) > 2


def test_what_was_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    def unexpected(_: Job) -> list[dict[str, Any]]:
        raise AssertionError

    parts = tmp_path / "table.parquet.parts"
    parts.mkdir()
    for job in jobs:
        row = {"trunk": job.trunk, "scenario": job.name, "final": True, "val_acc": 0.5}
        (parts / f"{job.name}.json").write_text(json.dumps([row]))
    monkeypatch.setattr(replay_table, "train", unexpected)
    assert [replay_table.keep(job, parts) for job in jobs] == [1] * len(jobs)
    assert replay_table.main(["--out", str(tmp_path / "table.parquet"), "--small", "--workers", "1"]) == 0
    table = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [(row["trunk"], row["scenario"]) for row in table] == [(job.trunk, job.name) for job in jobs]
    assert f"{len(jobs)} trainings with {len(jobs)} epochs" in capsys.readouterr().out

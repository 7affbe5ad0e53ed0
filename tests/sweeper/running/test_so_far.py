"""What the display says of a sweep is what its overview says."""

from pathlib import Path

import numpy as np
import pytest

from sweeper.analysis.frontier import points
from sweeper.analysis.overview import overview
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord, control_success
from sweeper.running.so_far import Levels, Spent
from tests.sweeper.small import (
    FACTS,
    ONE_SETTING,
    epoch_figures,
    finish,
    make_objectives,
    record_of,
    spec_with,
    sweep_with,
)

CHANGES = {"scenarios": [{"attack": "badnets", "target": 0}, {"attack": "blend", "target": 0}], "seeds": [0, 1]}


def searched() -> list[TrialRecord]:
    """Controls, twelve trials, and two that left their races after one training."""
    spec, random = spec_with(**CHANGES), np.random.default_rng(3)
    records = []
    config = record_of(spec=spec)
    for number, ((scenario, seed), key) in enumerate(config.controls.items()):
        control = record_of(f"c{number:04d}", "control", spec)
        assert config.config is not None
        own = next(s for s, r in config.config.runs() if (s.name, r) == (scenario, seed))
        control.config = config.config.control(own, seed, spec.control.as_dict())
        control.controls = {(scenario, seed): key}
        control.trainings = {(scenario, seed): control.trainings.popitem()[1]}
        records.append(finish(control, val_acc=0.95, val_asr=0.99, seconds=50.0))
    for number in range(12):
        record = record_of(f"t{number:04d}", spec=spec)
        record.config_id = f"config{number}"
        acc, asr = random.uniform(0.5, 0.95), random.uniform(0.05, 0.4)
        for run in record.trainings:
            record.trainings[run].attempt = 1
            own = {"val_acc": acc + random.normal(0, 0.01), "val_asr": asr, "seconds": random.uniform(60, 120)}
            record.add_epoch(run, epoch_figures(1, **own), FACTS)
        record.end("FINISHED")
        records.append(record)
    for number in (12, 13):
        record = record_of(f"t{number:04d}", spec=spec)
        first = ("blend", 0)
        record.trainings[first].attempt = 1
        record.add_epoch(first, epoch_figures(1, val_asr=0.9, seconds=80.0), FACTS)
        record.end_training(first, "FINISHED")
        record.ended_by = "blend"
        record.end("PRUNED", "val_asr_excess is at least 0.425, above the interest of 0.2")
        records.append(record)
    return records


def test_hours_and_best_settings_are_those_of_the_overview(tmp_path: Path) -> None:
    records, spec = searched(), spec_with(**CHANGES)
    folder = RunFolder.create(tmp_path / "run")
    folder.write_sweep(sweep_with(**CHANGES))
    asr = control_success(records)
    folder.write_tables(records, asr)
    frame = folder.read_trials()
    known = overview(frame, spec, points(frame))
    spent, levels = Spent(), Levels(spec.objectives)
    for record in [*records, *records]:  # told again, they count once
        rows = record.rows(asr)
        spent.add(record, rows)
        if record.status == "FINISHED" and record.role == "trial":
            levels.add(rows)
    assert known.saved == 6
    assert spent.hours_saved == pytest.approx(known.hours_saved)
    assert spent.hours_saved > 0
    best = known.best[""]
    assert any(best.values())
    shown = [f"<= {level:g}: {f'{one.acc:.3f}' if one else '-'}" for level, one in best.items()]
    assert levels.text == f"Best accuracy by val_asr_excess: {', '.join(shown)}"


def test_seconds_of_shared_stages_are_saved() -> None:
    spent, record = Spent(), finish(record_of())
    spent.add(record, [row | {"seconds_shared": 1800.0} for row in record.rows({})])
    assert spent.hours_saved == pytest.approx(0.5)


def test_where_trials_are_not_compared_by_what_the_trigger_adds_there_is_no_line() -> None:
    rows = finish(record_of()).rows({})
    searched = make_objectives(("val_asr_excess", "maximize"))
    attackers = Levels(spec_with(defense=ONE_SETTING, objectives=searched).objectives)
    clean, several = Levels(spec_with().objectives), Levels(spec_with().objectives)
    attackers.add(rows)
    clean.add([row | {"val_asr_excess": None} for row in rows])
    several.add(rows)
    assert several.text == "Best accuracy by val_asr_excess: <= 0.05: 0.800, <= 0.1: 0.800, <= 0.2: 0.800"
    several.add([row | {"poison_rate": 0.01} for row in rows])
    assert (attackers.text, clean.text, several.text) == ("", "", "")

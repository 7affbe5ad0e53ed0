"""A sweep that is watched, made by hand: records and tables as a driver writes them."""

from pathlib import Path
from typing import Any

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord, control_success
from tests.sweeper.small import FACTS, epoch_figures, finish, record_of, spec_with, sweep_with

CHANGES: dict[str, Any] = {
    "scenarios": [{"attack": "badnets", "target": 0}, {"attack": "blend", "target": 0}],
    "seeds": [0, 1],
    "search": {"trials": 8},
}


class Watched:
    """A run folder, and the records of its driver.

    Args:
        path: of the run folder, which is made.
        changes: of the small preset.
    """

    def __init__(self, path: Path, **changes: Any):
        self.changes = CHANGES | changes
        self.spec = spec_with(**self.changes)
        self.folder = RunFolder.create(path)
        self.folder.write_sweep(sweep_with(**self.changes))
        self.records: dict[str, TrialRecord] = {}
        self.write()

    def write(self, *records: TrialRecord) -> None:
        """Write records, and the tables."""
        for record in records:
            self.records[record.trial_id] = record
            self.folder.write_record(record)
        known = list(self.records.values())
        self.folder.write_tables(known, control_success(known))

    def controls(self) -> None:
        """Let all controls end."""
        of = record_of(spec=self.spec)
        assert of.config is not None
        for number, ((scenario, seed), key) in enumerate(of.controls.items()):
            own = next(s for s, r in of.config.runs() if (s.name, r) == (scenario, seed))
            config = of.config.control(own, seed, self.spec.control.as_dict())
            control = TrialRecord(f"c{number:04d}", "control", config, {(scenario, seed): key})
            self.write(finish(control, val_acc=0.95, val_asr=0.99))

    def trial(self, number: int, **figures: Any) -> TrialRecord:
        """A trial that has begun; with figures, one that has finished."""
        record = record_of(f"t{number:04d}", spec=self.spec)
        record.config_id = f"config{number}"
        record.searched |= {"vab.threshold": number / 10}
        if figures:
            for state in record.trainings.values():
                state.attempt = 1
            finish(record, **figures)
        self.write(record)
        return record

    def race_out(self, record: TrialRecord, asr: float) -> None:
        """Let a trial leave its race after one training."""
        self.train(record, ("blend", 0), val_asr=asr)
        record.ended_by = "blend"
        record.end("PRUNED", f"val_asr_excess is at least {asr / 2:.3f}, above the interest of 0.2")
        self.write(record)

    def train(self, record: TrialRecord, run: tuple[str, int], **figures: Any) -> None:
        """Let one training of a trial finish."""
        record.trainings[run].attempt, record.trainings[run].host = 1, "10.0.0.2"
        record.add_epoch(run, epoch_figures(1, **figures), FACTS)
        record.end_training(run, "FINISHED")
        self.write(record)

"""Replays races over the trainings of a sweep that ran all of them: its settings in other orders, nothing is trained.

python -m benchmarks.races_replay runs/races/off [--orders 20] [--places 2]

The agenda of the product runs with a virtual clock over the records of the sweep, which ran with races off. Where
defenses take turns they keep them. Trainings of controls count in neither column.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import optuna

from benchmarks.replay_clock import Replayed
from benchmarks.replay_figures import Name, Outcome, Setting
from benchmarks.replay_jobs import mean, mean_and_sd
from benchmarks.replay_policies import POLICIES, replay, volume
from benchmarks.timing import table
from sweeper.preset.blocks import DEFENSE
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FINISHED, TRIAL, Training

SHOWN = ("bounds", "learned", "bounds, one by one", "learned, one by one")
INTERESTS = (0.5, 0.3, 0.2)


class Recorded:
    """What the trainings of a sweep came out as.

    Args:
        folder: of the sweep; every training of it has finished.
    """

    def __init__(self, folder: RunFolder):
        self.spec = folder.spec()
        self.settings: list[Setting] = []
        self._trials: dict[Name, Outcome] = {}
        self._controls: dict[Name, Outcome] = {}
        for record in sorted(folder.read_records().values(), key=lambda record: record.trial_id):
            if record.status != FINISHED:
                raise SystemExit(f"{folder.path}: {record.trial_id} is {record.status}; every training is needed.")
            for run in record.trainings:
                final = record.final(run)
                found = Outcome(final, [float(final["seconds"])])
                known = self._trials if record.role == TRIAL else self._controls
                name = (str(record.config_id) if record.role == TRIAL else "control", *run)
                if name in known:
                    raise SystemExit(f"{folder.path}: {' '.join(map(str, name))} is there twice.")
                known[name] = found
            if record.role == TRIAL and record.config is not None:
                searched = {name: value for name, value in record.searched.items() if name != DEFENSE}
                self.settings.append(Setting(str(record.config_id), record.config.defense, 0, searched))

    def beside_controls(self, found: Replayed) -> tuple[int, float]:
        """The trainings that a sweep ran, and their seconds, those of the controls not counted."""
        seconds = sum(outcome.ends[-1] for outcome in self._controls.values())
        return found.trainings - len(self._controls), found.seconds - seconds

    def of(self, training: Training) -> Outcome:
        """The outcome of a training; the same whenever it is asked for."""
        if training.record.role != TRIAL:
            return self._controls["control", *training.run]
        return self._trials[str(training.record.config_id), *training.run]

    def in_order(self, order: int) -> list[Setting]:
        """The settings in one of many orders, in which the defenses keep their turns."""
        waiting: dict[str, list[Setting]] = {}
        for setting in self.settings:
            waiting.setdefault(setting.defense, []).append(setting)
        shuffle = Random(order).shuffle
        for own in waiting.values():
            shuffle(own)
        return [waiting[setting.defense].pop() for setting in self.settings]


def swept(recorded: Recorded, policy: str, interest: float, order: int, places: int) -> Replayed:
    """Run the sweep with a policy."""
    told = POLICIES[policy]
    changes = {"race": told.race, "interest": interest, "sampler": "random"}
    spec: SweepSpec = recorded.spec.model_copy(
        update={"search": recorded.spec.search.model_copy(update=changes)}
    )  # the settings are proposed one by one
    found = replay(spec, told, recorded, recorded.in_order(order), places=places, trials=len(recorded.settings))
    if found.problems:
        raise SystemExit(f"{policy}, interest {interest}, order {order}: {found.problems[0]}")
    return found


def compared(recorded: Recorded, orders: int, places: int) -> Iterator[list[str]]:
    """A row for each interest and policy."""
    for interest in INTERESTS:
        full = [swept(recorded, "off", interest, order, places) for order in range(orders)]
        wanted = volume(full[0].complete, interest)
        broken = mean([moment.attack > interest for moment in full[0].complete])
        for policy in SHOWN:
            own = [swept(recorded, policy, interest, order, places) for order in range(orders)]
            run, seconds = zip(*(_shares(recorded, a, b) for a, b in zip(own, full, strict=True)), strict=True)
            lost = [100 * (1 - volume(a.complete, interest) / wanted) if wanted else 0.0 for a in own]
            yield [
                f"{interest:g}", f"{broken:.2f}", policy, mean_and_sd(run, 2), mean_and_sd(seconds, 2),
                f"{mean(lost):.2f} ({max(lost):.2f})",
            ]  # fmt: skip


def _shares(recorded: Recorded, own: Replayed, full: Replayed) -> list[float]:
    pairs = zip(recorded.beside_controls(own), recorded.beside_controls(full), strict=True)
    return [mine / whole for mine, whole in pairs]


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races_replay", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a sweep that ran with races off")
    parser.add_argument("--orders", type=int, default=20, help="of the settings (20)")
    parser.add_argument("--places", type=int, default=2, help="trainings at a time (2)")
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    header = ["interest", "settings broken", "policy", "trainings run", "seconds", "% lost, mean (worst)"]
    print(table(header, list(compared(Recorded(RunFolder(args.run)), args.orders, args.places))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

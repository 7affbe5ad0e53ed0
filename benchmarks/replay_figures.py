"""What trainings come out as in a replay: as the table of real trainings says, or as a forest fitted on it expects."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GroupKFold

from sweeper.preset.blocks import DEFENSE
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import CONTROL, Training
from trainers.errors import ConfigError
from trainers.seeding import derive_seed

FIGURES = ("epoch", "images_seen", "seconds", "val_acc", "val_asr", "val_asr_excess", "asr_floor")
"""What the replay reads of an epoch."""
COLUMNS = ("trunk", "config_id", "defense", "searched", "scenario", "seed", "final", *FIGURES)
FINGERPRINT = "replay"
"""In the place of that of the data, which the replay does not read."""

Name = tuple[str, str, int]
"""Setting, scenario and seed: one training."""


class TableError(Exception):
    """The table cannot be used. The message is one sentence."""


@dataclass(frozen=True)
class Outcome:
    """What a training comes out as.

    Args:
        final: figures of its last epoch.
        ends: seconds from its beginning to the end of each epoch.
        epochs: figures of each epoch; empty where they are not known.
    """

    final: Mapping[str, Any]
    ends: Sequence[float]
    epochs: Sequence[Mapping[str, Any]] = ()


class Outcomes(Protocol):
    """Knows what each training of a sweep comes out as."""

    def of(self, training: Training) -> Outcome:
        """The outcome of one training; the same whenever it is asked for."""


@dataclass(frozen=True)
class Setting:
    """A setting of the table.

    Args:
        config_id: its name.
        defense: what it is a setting of.
        trunk: the trunk that it grew from.
        searched: its values by name in the study.
    """

    config_id: str
    defense: str
    trunk: int
    searched: Mapping[str, Any]

    @property
    def proposal(self) -> dict[str, Any]:
        """The values for a study in which the defense is searched too."""
        return {DEFENSE: self.defense, **self.searched}


@dataclass
class Table:
    """Real trainings: each of some settings, with every scenario and seed, and the controls.

    Args:
        settings: in the order of the table.
        trainings: by setting, scenario and seed.
    """

    settings: list[Setting] = field(default_factory=list)
    trainings: dict[Name, Outcome] = field(default_factory=dict)

    def of(self, training: Training) -> Outcome:
        """The outcome of a training of the table."""
        return self.trainings[name_of(training)]


def name_of(training: Training) -> Name:
    """The name of a training in the table."""
    assert training.record.config_id is not None
    return (training.record.config_id, *training.run)


def read_table(path: Path) -> Table:
    """Read the table that ``benchmarks/replay_table.py`` wrote.

    Raises:
        TableError: there is none, it is no such table, or trainings are missing.
    """
    if not path.is_file():
        raise TableError(f"{path} does not exist; python -m benchmarks.replay_table writes it.")
    try:
        missing = [name for name in COLUMNS if name not in pq.read_schema(path).names]
        if missing:
            raise TableError(f"{path} has no column {', '.join(missing)}; it is not a table of this version.")
        rows = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    except pa.ArrowException as error:
        raise TableError(f"{path} is no Parquet file that can be read: {str(error).splitlines()[0]}") from error
    table, epochs = Table(), dict[Name, list[dict[str, Any]]]()
    known: dict[str, Setting] = {}
    for row in rows:
        epochs.setdefault((row["config_id"], row["scenario"], row["seed"]), []).append(row)
        if row["trunk"] is not None and row["config_id"] not in known:
            searched = json.loads(row["searched"])
            known[row["config_id"]] = Setting(row["config_id"], row["defense"], row["trunk"], searched)
    table.settings = list(known.values())
    for name, own in epochs.items():
        own.sort(key=lambda row: int(row["epoch"]))
        if not own[-1]["final"]:
            raise TableError(f"{path} does not have the last epoch of {' '.join(map(str, name))}.")
        figures = [{figure: row[figure] for figure in FIGURES} for row in own]
        table.trainings[name] = Outcome(figures[-1], [float(row["seconds"]) for row in own], figures)
    if not table.settings:
        raise TableError(f"{path} has no setting of a defense.")
    return table


def check(table: Table, spec: SweepSpec, path: Path) -> None:
    """Check that the table has each training of a sweep over its settings.

    Raises:
        TableError: it does not, or it names a setting otherwise than this version does.
    """
    for setting in table.settings:
        try:
            config = spec.trial(lambda name, _, own=setting.proposal: own[name], FINGERPRINT)  # type: ignore[misc]
        except (ConfigError, KeyError) as error:
            raise TableError(
                f"{path} is of another version: {setting.config_id} is no setting here: {error}"
            ) from error
        if config.setting_key != setting.config_id:
            raise TableError(f"{path} is of another version: {setting.config_id} is {config.setting_key} here.")
        for scenario, seed in config.runs():
            control = config.control(scenario, seed, spec.control.as_dict())
            for key in (config.setting_key, control.setting_key):
                if (key, scenario.name, seed) not in table.trainings:
                    raise TableError(f"{path} does not have the training {key} {scenario.name} {seed}.")


class Forest:
    """Expects what a training comes out as, from the values of its setting; one forest for each defense.

    A training gets the mean that the forest expects, and noise as large as seeds of one setting differ in the table.
    Controls come out as in the table.

    Args:
        table: real trainings.
        trees: in each forest.
    """

    TARGETS = ("val_acc", "val_asr_excess", "asr_floor", "images_seen", "seconds")

    def __init__(self, table: Table, trees: int = 100):
        self._table = table
        self._trees = trees
        self._runs = sorted({(scenario, seed) for _, scenario, seed in table.trainings})
        self._scenarios = sorted({scenario for scenario, _ in self._runs})
        self._codes: dict[tuple[str, Any], int] = {}
        self._members: dict[str, list[Setting]] = {}
        for setting in table.settings:
            self._members.setdefault(setting.defense, []).append(setting)
        self._forests = {defense: self._fit(members) for defense, members in self._members.items()}
        self._noise = {defense: self._spread(members) for defense, members in self._members.items()}
        self._epochs = {
            defense: round(fmean(len(self._of(s.config_id, *run).ends) for s in members for run in self._runs))
            for defense, members in self._members.items()
        }
        self._expected: dict[str, np.ndarray[Any, Any]] = {}

    def of(self, training: Training) -> Outcome:
        """The expected outcome of a training, with its noise."""
        record, (scenario, seed) = training.record, training.run
        if record.role == CONTROL:
            return self._table.of(training)
        assert record.config is not None
        assert record.config_id is not None
        defense, column = record.config.defense, self._scenarios.index(scenario)
        if record.config_id not in self._expected:
            values = {key: value for key, value in record.searched.items() if key != DEFENSE}
            self._expected[record.config_id] = self._expect(self._forests[defense], [values])[0]
        mean = dict(zip(self.TARGETS, self._expected[record.config_id][:, column], strict=True))
        generator = np.random.default_rng(derive_seed("replay", record.config_id, scenario, seed))
        noise = generator.normal(size=2) * self._noise[defense][:, column]
        acc, excess = np.clip([mean["val_acc"] + noise[0], mean["val_asr_excess"] + noise[1]], 0, 1)
        seconds, epochs = float(np.exp(mean["seconds"])), self._epochs[defense]
        final = {
            "epoch": epochs, "images_seen": round(mean["images_seen"]), "seconds": seconds, "val_acc": float(acc),
            "val_asr": min(float(excess + mean["asr_floor"]), 1.0), "val_asr_excess": float(excess),
            "asr_floor": float(mean["asr_floor"]),
        }  # fmt: skip
        return Outcome(final, [seconds * (k + 1) / epochs for k in range(epochs)])

    def errors(self) -> dict[str, dict[str, tuple[float, float]]]:
        """By defense and figure: the mean absolute error for settings of trunks that the forest has not seen, and that
        of the mean over all other settings. Both are of the mean over seeds, in five parts of the trunks.
        """
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for defense, members in self._members.items():
            real = self._real(members)
            expected, usual = np.zeros_like(real), np.zeros_like(real)
            trunks = [setting.trunk for setting in members]
            for seen, unseen in GroupKFold(min(5, len(set(trunks)))).split(trunks, groups=trunks):
                forest = self._fit([members[i] for i in seen])
                expected[unseen] = self._expect(forest, [members[i].searched for i in unseen])
                usual[unseen] = real[seen].mean(axis=0)
            off = [np.abs(guess - real).mean(axis=(0, 2)) for guess in (expected, usual)]
            found[defense] = {self.TARGETS[k]: (float(off[0][k]), float(off[1][k])) for k in (0, 1)}
        return found

    def _of(self, *name: Any) -> Outcome:
        return self._table.trainings[name]

    def _code(self, searched: Mapping[str, Any]) -> list[float]:
        """Values as numbers; choices get numbers in the order in which they are met."""
        values = (searched[key] for key in sorted(searched))
        return [self._codes.setdefault((v, 0), len(self._codes)) if isinstance(v, str) else float(v) for v in values]

    def _figures(self, members: Sequence[Setting]) -> np.ndarray[Any, Any]:
        """By setting, figure, scenario and seed."""
        seeds = sorted({seed for _, seed in self._runs})
        return np.array(
            [
                [
                    [
                        [self._of(s.config_id, scenario, seed).final[name] for seed in seeds]
                        for scenario in self._scenarios
                    ]
                    for name in self.TARGETS
                ]
                for s in members
            ],
            float,
        )

    def _real(self, members: Sequence[Setting]) -> np.ndarray[Any, Any]:
        """By setting, figure and scenario: the mean over seeds, of seconds the logarithm."""
        figures = self._figures(members)
        figures[:, -1] = np.log(np.maximum(figures[:, -1], 1e-9))
        return np.asarray(figures.mean(axis=3))

    def _spread(self, members: Sequence[Setting]) -> np.ndarray[Any, Any]:
        """By figure and scenario: the standard deviation between seeds of a setting."""
        figures = self._figures(members)
        if figures.shape[3] < 2:
            return np.zeros(figures.shape[1:3])[:2]
        return np.asarray(np.sqrt(figures.var(axis=3, ddof=1).mean(axis=0)))[:2]

    def _fit(self, members: Sequence[Setting]) -> tuple[RandomForestRegressor, np.ndarray[Any, Any]]:
        """A forest with its scale: figures of small and large spread weigh the same."""
        real = self._real(members).reshape(len(members), -1)
        scale = np.maximum(real.std(axis=0), 1e-9)
        forest = RandomForestRegressor(self._trees, min_samples_leaf=2, random_state=0)
        return forest.fit([self._code(s.searched) for s in members], real / scale), scale

    def _expect(
        self, fitted: tuple[RandomForestRegressor, np.ndarray[Any, Any]], searched: Sequence[Mapping[str, Any]]
    ) -> np.ndarray[Any, Any]:
        """By setting, figure and scenario."""
        forest, scale = fitted
        coded = np.array([self._code(values) for values in searched], np.float32)
        # The same as forest.predict, without the threads that it starts: ten times as fast for one setting.
        flat = np.mean([tree.tree_.predict(coded)[..., 0] for tree in forest.estimators_], axis=0) * scale
        return np.asarray(flat.reshape(len(searched), len(self.TARGETS), -1))

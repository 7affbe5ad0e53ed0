"""Trains the table of real trainings over which policies of a search can be replayed.

On ``shapes``: V&B and PT, of each 15 trunks (values of the parameters that its first stages read) with four late
settings, against four attackers with two seeds, and the controls; 968 trainings. Values are drawn at random from the
ranges of ``defenses_cpu.yaml``. Settings of one trunk begin with the state at its end, which gives the same figures as
a training of their own; their seconds count the trunk. The table has a row for each training and epoch.

    OMP_NUM_THREADS=1 python -m benchmarks.replay_table --out TABLE.parquet

Each trunk with one attacker and seed is written to TABLE.parquet.parts when it ends, so the command may be stopped and
started again.
"""

import argparse
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import inf
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.trainings import load
from search_spaces.distributions import Searched, suggest
from search_spaces.loader import apply_overrides, read_preset
from sweeper.preset.blocks import DEFENSE
from sweeper.preset.spec import SweepSpec, validate
from trainers.storage.files import write_text, write_with
from trainers.storage.state_store import StateStore
from trainers.trial import EpochResult, TrialConfig, run_trial

LATE: dict[str, dict[str, Any]] = {
    "vab": {"stage": "suppression", "searched": ("suppression", "late_weight")},
    "pt": {"stage": "finetuning", "searched": ("unlearning_weight",)},
}
"""Of each defense the stage that is not part of the trunk, and the searched parameters that it alone reads."""
OVERRIDES = ("seeds=[0, 1]",)
SMALL = (
    "data.train_size=200", "data.test_size=100", "data.held_out_size=null", "control.epochs=1",
    "scenarios=[{attack: badnets, poison_rate: 0.1}]",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One trunk with one attacker and one seed.

    Args:
        trunk: its number; null: the control.
        configs: its settings, each with one scenario and one seed.
        searched: the values that were drawn for each.
        preset: of the data.
    """

    trunk: int | None
    configs: tuple[TrialConfig, ...]
    searched: tuple[Mapping[str, Any], ...]
    preset: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its part."""
        scenario, seed = self.configs[0].runs()[0]
        return f"{'control' if self.trunk is None else self.trunk}-{scenario.name}-{seed}"


def preset_of(small: bool) -> dict[str, Any]:
    """``defenses_cpu.yaml`` with two of its defenses, and two seeds."""
    whole = read_preset("defenses_cpu.yaml")
    whole["defense"] = [block for block in whole["defense"] if block["name"] in LATE]
    if small:
        for block in whole["defense"]:
            block |= {key: 1 for key in block if key.endswith("_epochs") and key != "partial_epochs"}
    return apply_overrides(whole, [*OVERRIDES, *(SMALL if small else ())], "replay_table")


def settings(spec: SweepSpec, fingerprint: str, trunks: int, branches: int) -> Iterator[tuple[int, list[Any]]]:
    """The number of each trunk, and its settings: values drawn at random, and the trial with them."""
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number, defense in enumerate(defense for _ in range(trunks) for defense in LATE):
        early: dict[str, Any] = {}
        found = []
        for _ in range(branches):
            trial, own = draws.ask(), dict(early)

            def choose(name: str, searched: Searched, trial=trial, own=own, defense=defense) -> Any:  # type: ignore[no-untyped-def]
                if name == DEFENSE:
                    return defense
                if name not in own:
                    own[name] = suggest(trial, name, searched)
                return own[name]

            config = spec.trial(choose, fingerprint)
            early = {key: own[key] for key in own if key.partition(".")[2] not in LATE[defense]["searched"]}
            found.append((own, config))
        yield number, found


def jobs(small: bool) -> list[Job]:
    """The controls first, then every trunk with every attacker and seed."""
    preset = preset_of(small)
    spec = validate(preset, "replay_table")
    drawn = list(settings(spec, load(preset).fingerprint, 1 if small else 15, 2 if small else 4))
    first = drawn[0][1][0][1]
    runs = first.runs()
    controls = [first.control(scenario, seed, spec.control.as_dict()) for scenario, seed in runs]
    found = [Job(None, (control,), ({},), preset) for control in controls]
    for (number, members), (scenario, seed) in itertools.product(drawn, runs):
        configs = tuple(replace(config, scenarios=(scenario,), repeats=(seed,)) for _, config in members)
        found.append(Job(number, configs, tuple(own for own, _ in members), preset))
    return found


class TrunkStore(StateStore):
    """States at the ends of stages; that at the end of the trunk is kept.

    Args:
        folder: of the states.
        trunk: where to keep it.
        late: the stage after the trunk.
    """

    def __init__(self, folder: Path, trunk: Path, late: str | None):
        super().__init__(folder, every_s=inf)
        self._folder, self._trunk, self._late = folder, trunk, late

    def save(self, run: int, state: dict[str, Any]) -> None:
        """As in the base class."""
        super().save(run, state)
        if state["measured"][-1]["stage"] != self._late:
            shutil.copytree(self._folder, self._trunk, dirs_exist_ok=True)


def train(job: Job) -> list[dict[str, Any]]:
    """Rows of all settings of a trunk; each begins with the state that the first has left at the trunk's end."""
    rows: list[dict[str, Any]] = []
    late = LATE.get(job.configs[0].defense, {}).get("stage")
    with tempfile.TemporaryDirectory() as scratch:
        trunk = Path(scratch) / "trunk"
        for number, (config, searched) in enumerate(zip(job.configs, job.searched, strict=True)):
            own = Path(scratch) / str(number)
            if number:
                shutil.copytree(trunk, own)
            store = TrunkStore(own, trunk, late)
            rows += [row_of(job, config, searched, result) for result in run_trial(config, load(job.preset), store)]
    return rows


def row_of(job: Job, config: TrialConfig, searched: Mapping[str, Any], result: EpochResult) -> dict[str, Any]:
    """A row of the table: one epoch of one training."""
    figures = asdict(result.measurement)
    del figures["val_class_counts"]
    return {
        "trunk": job.trunk, "config_id": config.setting_key, "defense": config.defense,
        "searched": json.dumps(searched), "scenario": result.scenario.name, "seed": result.repeat,
        "final": result.final, **figures,
    }  # fmt: skip


def keep(job: Job, parts: Path) -> int:
    """Train a job unless its part is there; returns how many epochs it has."""
    path = parts / f"{job.name}.json"
    if not path.exists():
        write_text(path, json.dumps(train(job)))
    return len(json.loads(path.read_text(encoding="utf-8")))


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_table", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.parquet", help="where to write the table")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    parser.add_argument("--small", action="store_true", help="two trunks with two settings, on a few images")
    args = parser.parse_args(argv)
    parts = args.out.with_name(args.out.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    todo = jobs(args.small)
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for number, (job, epochs) in enumerate(zip(todo, pool.map(keep, todo, [parts] * len(todo)), strict=True), 1):
            print(f"{number} of {len(todo)}: {job.name}, {epochs} epochs", file=sys.stderr, flush=True)
    rows = [row for job in todo for row in json.loads((parts / f"{job.name}.json").read_text(encoding="utf-8"))]
    write_with(args.out, lambda beside: pq.write_table(pa.Table.from_pylist(rows), beside, compression="zstd"))
    print(f"{sum(row['final'] for row in rows)} trainings with {len(rows)} epochs: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The replay, over a table that is made up so that the answers are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import replay
from benchmarks.replay_clock import Replayed
from benchmarks.replay_figures import FINGERPRINT, Forest, Name, Outcome, Table, TableError, check, read_table
from benchmarks.replay_policies import POLICIES, Case, gap, reached, shuffled, volume, whole
from benchmarks.replay_policies import replay as run_sweep
from benchmarks.replay_table import preset_of, settings
from sweeper.preset.spec import validate

CASE = Case(interest=0.3)
ORDER = 0
"""Of the settings of PT: the worst ones come last."""
BROKEN = 0.9
"""Attack success of a broken setting in the adaptive scenario."""


def is_broken(trunk: int) -> bool:
    """Every second trunk of PT, whose numbers are odd."""
    return trunk % 4 == 1


def attack_of(trunk: int, scenario: str) -> float:
    """What an attack achieves above its floor, whatever the seed."""
    return BROKEN if scenario == "adaptive_blend" and is_broken(trunk) else 0.05


def accuracy_of(trunk: int, late: int) -> float:
    return 0.6 + 0.02 * trunk + 0.005 * late


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = validate(preset_of(small=False), "test")
    rows: list[dict[str, Any]] = []

    def add(trunk: int | None, config: Any, searched: Any, acc: float, attack: Callable[[str], float]) -> None:
        for scenario, seed in config.runs():
            for epoch in (1, 2):
                excess = attack(scenario.name)
                rows.append({
                    "trunk": trunk, "config_id": config.setting_key, "defense": config.defense,
                    "searched": json.dumps(searched), "scenario": scenario.name, "seed": seed, "final": epoch == 2,
                    "epoch": epoch, "images_seen": 30_000 * epoch, "seconds": 5.0 * epoch, "val_acc": acc,
                    "val_asr": excess + 0.02, "val_asr_excess": excess, "asr_floor": 0.02,
                })  # fmt: skip

    for trunk, members in settings(spec, FINGERPRINT, 4, 2):
        for late, (searched, config) in enumerate(members):
            add(trunk, config, searched, accuracy_of(trunk, late), lambda name, trunk=trunk: attack_of(trunk, name))  # type: ignore[misc]
    for scenario, seed in config.runs():
        control = config.control(scenario, seed, spec.control.as_dict())
        add(None, control, {}, 0.9, lambda _: 0.95)
    path = tmp_path_factory.mktemp("replay") / "table.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def table(path: Path) -> Table:
    return read_table(path)


def sweep(table: Table, policy: str, case: Case = CASE, order: int = 0, **how: Any) -> Replayed:
    proposals = shuffled(case.settings(table), order)
    spec = case.spec(POLICIES[policy], len(proposals))
    found = run_sweep(spec, POLICIES[policy], table, proposals, **how)
    assert found.problems == []
    return found


def test_off_runs_every_training_one_after_the_other(table: Table) -> None:
    found = sweep(table, "off")
    assert len(found.complete) == len(table.settings) == 16
    assert found.trainings == 16 * 8 + 8
    assert found.makespan == found.seconds == pytest.approx(10.0 * found.trainings)
    assert found.complete[0].trainings == 8 + 8  # its controls, then itself
    assert volume(found.complete, 0.3) == volume(whole(table, CASE), 0.3) == pytest.approx(accuracy_of(7, 1) * 5 / 6)


@pytest.mark.parametrize("policy", ["bounds", "bounds, preset order", "learned", "learned, learned order"])
def test_races_keep_the_frontier_with_fewer_trainings(table: Table, policy: str) -> None:
    full = whole(table, CASE)
    for order in range(3):
        found = sweep(table, policy, order=order)
        assert found.trainings < 110  # of 136
        assert {moment.attack for moment in found.complete} == {0.05}  # of broken settings none is complete
        assert gap(full, found.complete, 0.3) <= 0.02
        assert reached(found, volume(full, 0.3), 0.3).trainings <= found.trainings


def test_a_broken_setting_is_finished_off_by_its_next_seed(table: Table) -> None:
    """Its second training of the scenario that broke it shows that nobody would deploy it."""
    broken = Table([s for s in table.settings if is_broken(s.trunk)], table.trainings)
    case = Case(interest=0.5, defenses=("pt",))
    in_turn, finished_off, waiting = (
        sweep(broken, name, case) for name in ("bounds, preset order", "bounds, one by one", "bounds")
    )
    assert finished_off.complete == []
    assert in_turn.trainings - 8 == 4 * 8  # the adaptive scenario is the preset's last
    assert finished_off.trainings - 8 == 5 + 3 * 2  # the first shows which scenario ends trials
    assert waiting.complete == []
    # The one that shows it first waits behind the others, since it would add nothing.
    assert finished_off.trainings < waiting.trainings < in_turn.trainings


@pytest.mark.parametrize("places", [1, 7, 1000])
def test_places_share_the_trainings_and_losses_are_made_up_for(table: Table, places: int) -> None:
    whole_sweep = sweep(table, "off", places=places)
    assert whole_sweep.makespan == pytest.approx(10.0 * -(-136 // places) if places < 1000 else 10.0)
    found = sweep(table, "off", places=places, lost_every=20.0)
    assert found.lost > 20
    assert found.trainings == 136 + found.lost
    assert [len(found.complete), found.makespan > whole_sweep.makespan] == [16, True]
    assert sweep(table, "learned", places=places, lost_every=20.0).trainings < found.trainings


def test_trainings_that_nobody_needs_stop_at_the_end_of_their_epoch(table: Table) -> None:
    found = sweep(table, "bounds", places=1000)
    assert found.trainings == 136
    assert found.makespan == 10.0
    assert found.complete
    assert sweep(table, "bounds", places=20).seconds < 10.0 * sweep(table, "bounds", places=20).trainings


def with_curves(table: Table) -> Table:
    """The table with 24 epochs of a second in each training. There is no model in the first; then each setting is less
    accurate than those before it.
    """
    order = [setting.config_id for setting in table.settings]

    def outcome(name: Name, known: Outcome) -> Outcome:
        acc = 0.9 - 0.05 * order.index(name[0]) if name[0] in order else 0.9
        epochs = [{**known.final, "epoch": k, "val_acc": None if k == 1 else acc} for k in range(1, 25)]
        return Outcome(known.final, [float(k) for k in range(1, 25)], epochs)

    return Table(table.settings, {name: outcome(name, known) for name, known in table.trainings.items()})


@pytest.mark.parametrize("places", [1, 20])
def test_asha_stops_at_the_end_of_an_epoch_and_the_whole_trial(table: Table, places: int) -> None:
    """Plans of PT have 22 to 24 epochs: rungs are at the sixth, and at the 17th or 18th. Of six trainings in each
    trial, 0.83 go on.

    The worst setting is the seventh of eight, and is stopped at the first rung. The last one is better than it, but at
    the second rung, to which the worst does not come, it is the last of seven.
    """
    case = Case(interest=0.3, defenses=("pt",), without=("adaptive_blend",))
    off, found = (sweep(with_curves(table), policy, case, order=ORDER, places=places) for policy in ("off", "asha"))
    assert (len(off.complete), len(found.complete)) == (8, 6)
    assert found.trainings <= off.trainings
    assert found.seconds < off.seconds
    if places == 1:
        assert found.trainings == off.trainings - 2 * 5
        assert found.seconds == 24.0 * (found.trainings - 2) + 6.0 + 18.0
    lost = sweep(with_curves(table), "asha", case, order=ORDER, places=places, lost_every=40.0)
    assert lost.lost > 5
    assert lost.complete


def test_a_forest_expects_what_the_table_shows(table: Table) -> None:
    forest = Forest(table, trees=20)
    errors = forest.errors()
    assert set(errors) == {"vab", "pt"}
    assert errors["vab"]["val_asr_excess"] == pytest.approx((0, 0), abs=1e-6)  # V&B never breaks here
    assert errors["vab"]["val_acc"][1] == pytest.approx(0.05, abs=0.03)
    spec = CASE.spec(POLICIES["learned"], 12, "tpe")
    found, again = (run_sweep(spec, POLICIES["learned"], Forest(table, trees=20), places=3) for _ in range(2))
    assert found.problems == []
    assert 12 < found.trainings < 12 * 8
    assert found.complete == again.complete
    assert all(0.5 < moment.acc < 0.8 and moment.attack < 0.3 for moment in found.complete if moment.kept)


def test_the_command_prints_tables_and_draws_a_picture(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--table", str(path), "--small", "--workers", "1", "--part", "policies"]
    assert replay.main([*arguments, "--picture", str(tmp_path / "picture.png")]) == 0
    printed = capsys.readouterr().out
    assert "25% of 16 settings are broken" in printed
    assert "PROBLEMS" not in printed
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_compares_the_policies_that_are_asked_for(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--table", str(path), "--small", "--workers", "1", "--part", "policies", "--orders", "1"]
    assert replay.main([*arguments, "--policy", "bounds", "--policy", "off"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines if "---" not in line] == ["policy", "off", "bounds"] * 2


@pytest.mark.parametrize("what", ["absent", "garbled", "columns", "training", "names", "unfinished"])
def test_a_table_that_does_not_fit_is_refused_in_one_sentence(
    what: str, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, rows = tmp_path / "other.parquet", pq.read_table(path).to_pylist()
    said = {
        "absent": "does not exist", "garbled": "is no Parquet file", "columns": "has no column seconds",
        "training": "does not have the training", "names": "is of another version", "unfinished": "last epoch",
    }[what]  # fmt: skip
    if what == "garbled":
        other.write_text("no table")
    elif what != "absent":
        if what == "columns":
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        elif what == "training":
            rows = rows[2:]
        elif what == "unfinished":
            rows = rows[:1] + rows[2:]
        else:
            rows = [row | {"config_id": row["config_id"][::-1]} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), other)
    assert replay.main(["--table", str(other)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    if what != "absent":
        with pytest.raises(TableError):
            check(read_table(other), CASE.spec(POLICIES["off"], 16), other)

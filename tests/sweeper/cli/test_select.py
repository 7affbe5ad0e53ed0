"""``select`` and ``frontier``."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from sweeper.run_folder.certificate import write_certificate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import as_rows
from tests.sweeper.certificates import certificate_of, good, replicate_rows, setting_named, step
from tests.sweeper.cli.calls import SWEEP, call, params, sentence, sweep_at
from tests.sweeper.small import control_row, finish, record_of, row_with, write_rows
from trainers.defenses import DEFENSES


def test_select_writes_the_setting_to_deploy(run_dir: Path) -> None:
    result = call("select", str(run_dir), "--max-asr", "0.15")
    assert result.exit_code == 0, result.output
    attack = "worst val_asr_excess 0.050 (val_asr 0.100, floor 0.050, control 1.000), worst val_asr 0.100; "
    assert f"config1 (t0001): val_acc 0.800, {attack}" in result.stdout
    assert "1 other qualified" in result.stdout
    assert "one seed" in result.stdout
    content = yaml.safe_load((run_dir / "deploy.yaml").read_text())
    assert (content["defense"], content["params"]["threshold"]) == ("vab", 0.2)
    assert DEFENSES["vab"].Params(**content["params"]) == DEFENSES["vab"].Params(threshold=0.2)
    assert content["chosen_for"]["max_asr"] == 0.15
    assert content["source"]["config_id"] == "config1"


def test_select_bounds_what_the_trigger_adds(run_dir: Path) -> None:
    result = call("select", str(run_dir), "--max-excess", "0.05")
    assert result.exit_code == 0, result.output
    figures = "worst val_asr_excess 0.050 (val_asr 0.100, floor 0.050, control 1.000); "
    assert f"config1 (t0001): val_acc 0.800, {figures}" in result.stdout
    test = f"sweeper confirm {run_dir} --max-excess 0.05 --confidence 0.95"
    assert f"{test}, and then sweeper select {run_dir} --max-excess 0.05 --confidence 0.95" in result.stdout
    content = yaml.safe_load((run_dir / "deploy.yaml").read_text())
    assert (content["chosen_for"]["max_excess"], content["chosen_for"]["max_asr"]) == (0.05, None)
    assert (content["val_asr_excess"], content["val_asr"], content["asr_floor"]) == (pytest.approx(0.05), 0.1, 0.05)
    assert content["evidence"][0]["val_asr_excess"] == pytest.approx(0.05)
    both = sentence(call("select", str(run_dir), "--max-excess", "0.05", "--max-asr", "0.01"), code=3)
    assert "No setting has worst val_asr_excess <= 0.05 and worst val_asr <= 0.01." in both


def test_select_without_a_bound_on_the_attack_says_what_is_missing(run_dir: Path) -> None:
    text = sentence(call("select", str(run_dir), "--min-acc", "0.5"))
    assert text == "Give --max-excess, the most that a trigger may add to the floor, or --max-asr, or both."


def test_select_says_what_comes_nearest_and_exits_3(run_dir: Path) -> None:
    text = sentence(call("select", str(run_dir), "--max-asr", "0.01"), code=3)
    assert "Nearest is vab config2" in text
    assert not (run_dir / "deploy.yaml").exists()
    assert call("select", str(run_dir), "--max-asr", "0.15").exit_code == 0
    text = sentence(call("select", str(run_dir), "--max-asr", "0.01"), code=3)
    assert "deploy.yaml still holds an earlier selection" in text


def test_select_keeps_a_bound_on_the_worst_class_and_names_lost_classes(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "classes")
    folder.write_sweep(SWEEP)
    lost, kept, plain = (json.dumps([["cat", cats, 10], ["dog", 8, 10]]) for cats in (0, 6, 9))
    rows = [
        control_row(val_class_counts=plain),
        row_with("t0", "a", val_acc=0.9, val_min_class_acc=0.0, val_class_counts=lost, **params()),
        row_with("t1", "b", val_acc=0.7, val_min_class_acc=0.6, val_class_counts=kept, **params()),
    ]
    write_rows(folder, rows)
    sentence_ = "vab a has lost the class cat: its accuracy there is below a tenth of that without a defense."
    text = call("select", str(folder.path), "--max-asr", "0.2").stdout
    assert "vab a (t0): val_acc 0.900, worst class 0.000, worst val_asr_excess 0.050 (val_asr 0.100," in text
    assert sentence_ in text
    text = call("select", str(folder.path), "--max-asr", "0.2", "--min-class-acc", "0.5").stdout
    assert "vab b (t1): val_acc 0.700, worst class 0.600" in text
    assert "lost" not in text
    assert f"sweeper confirm {folder.path} --max-asr 0.2 --confidence 0.95, and then" in text
    assert "--max-asr 0.2 --min-class-acc 0.5 --confidence 0.95" in text
    text = call("select", str(folder.path), "--max-asr", "0.2", "--over", "cvar", "--poison-rate", "0.1").stdout
    assert f"sweeper select {folder.path} --max-asr 0.2 --poison-rate 0.1 --over cvar --confidence 0.95" in text
    result = call("frontier", str(folder.path))
    assert sentence_ in result.stdout
    assert "worst class" in result.stdout


def test_a_bound_on_the_worst_class_of_an_earlier_sweep_is_one_sentence(run_dir: Path) -> None:
    columns = pq.read_table(run_dir / "trials.parquet")
    older = [name for name in columns.column_names if "class" not in name and "balanced" not in name]
    pq.write_table(columns.select(older), run_dir / "trials.parquet")
    assert call("select", str(run_dir), "--max-asr", "0.15").exit_code == 0
    assert call("frontier", str(run_dir)).exit_code == 0
    text = sentence(call("select", str(run_dir), "--max-asr", "0.15", "--min-class-acc", "0.2"), code=3)
    assert text.startswith(
        "No setting has accuracies of single classes, since an earlier version of this program trained it: leave out "
        "--min-class-acc, or run the sweep again."
    )
    text = sentence(call("select", str(run_dir), "--max-asr", "0.15", "--min-class-acc", "2"))
    assert text == "--min-class-acc must lie in [0, 1], but got 2."


def test_a_defense_may_be_chosen_and_what_it_needs_is_said(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "both")
    folder.write_sweep(SWEEP)
    bcu = {f"param.defense.{key}": value for key, value in DEFENSES["bcu"].Params().as_dict().items()}
    rows = [row_with("t0000", "a", val_acc=0.9, val_asr=0.1, **params()),
            row_with("t0001", "b", defense="bcu", val_acc=0.7, val_asr=0.05, **bcu)]  # fmt: skip
    write_rows(folder, [control_row(), *rows])
    first = call("select", str(folder.path), "--max-asr", "0.2")
    assert "vab a (t0000): val_acc 0.900" in first.stdout
    assert "--unlabelled" not in first.stdout
    second = call("select", str(folder.path), "--max-asr", "0.2", "--defense", "bcu")
    assert "bcu b (t0001): val_acc 0.700" in second.stdout
    assert "0 others qualified" in second.stdout
    assert "--data SOURCE --unlabelled SOURCE --out DIR" in second.stdout
    assert "--defense bcu --confidence 0.95" in second.stdout
    text = sentence(call("select", str(folder.path), "--max-asr", "0.2", "--defense", "pt"), code=3)
    assert "No trial with the defense pt finished; there are bcu, vab" in text


def test_what_fresh_seeds_made_of_the_setting_is_said_before_it_is_deployed(run_dir: Path) -> None:
    first = call("select", str(run_dir), "--max-asr", "0.15").stdout
    assert f"sweeper confirm {run_dir} --max-asr 0.15 --confidence 0.95, and then sweeper select" in first
    assert "replacing an earlier selection" not in first
    folder = RunFolder(run_dir)
    again = [row_with(f"k{seed}", "config1", role="confirmation", seed=seed, val_acc=0.7 + seed / 100, val_asr=0.2)
             for seed in (1, 2, 3)]  # fmt: skip
    write_rows(folder, [*as_rows(folder.read_trials().drop(columns="constraints_kept")), *again])
    text = call("select", str(run_dir), "--max-asr", "0.15").stdout
    again_ = "val_acc 0.720 ± 0.010, worst val_asr_excess 0.150 ± 0.000 (val_asr 0.200 ± 0.000, floor 0.050)."
    assert f"With 3 fresh seeds, which --confidence does not count: {again_}" in text
    assert f"before deploying: sweeper confirm {run_dir} --max-asr 0.15 --confidence 0.95, and then" in text
    assert "deploy.yaml, replacing an earlier selection" in text


def test_a_sweep_that_has_not_ended_says_so(run_dir: Path) -> None:
    folder = RunFolder(run_dir)
    folder.write_record(finish(record_of("t0000")))
    for command in (("select", str(run_dir), "--max-asr", "0.15"), ("frontier", str(run_dir))):
        assert f"Only 1 of 2 trials have ended; sweeper resume {run_dir} runs the rest." in call(*command).stdout
    folder.write_record(finish(record_of("t0001")))
    assert "have ended" not in call("frontier", str(run_dir)).stdout


def test_where_no_setting_qualifies_a_sweep_that_has_not_ended_says_so_too(run_dir: Path) -> None:
    RunFolder(run_dir).write_record(finish(record_of("t0000")))
    result = call("select", str(run_dir), "--max-asr", "0.0001")
    assert result.exit_code == 3
    assert f"Only 1 of 2 trials have ended; sweeper resume {run_dir} runs the rest." in result.stderr


def test_weak_evidence_exits_3(tmp_path: Path) -> None:
    weak = sweep_at(tmp_path / "weak", weak_attack=True, control_asr=0.3)
    assert "sound evidence" in sentence(call("select", str(weak), "--max-asr", "0.5"), code=3)


def test_select_wants_a_sweep(tmp_path: Path, run_dir: Path) -> None:
    assert "holds no sweep" in sentence(call("select", str(tmp_path / "empty"), "--max-asr", "0.1"))
    (run_dir / "trials.parquet").write_bytes(b"PAR1 no table")
    assert "trials.parquet cannot be read" in sentence(call("select", str(run_dir), "--max-asr", "0.1"))


def test_select_wants_a_whole_description(run_dir: Path) -> None:
    (run_dir / "sweep.yaml").write_text("a: [1\n")
    assert "sweep.yaml cannot be read" in sentence(call("select", str(run_dir), "--max-asr", "0.15"))


@pytest.mark.parametrize("bound", ["-0.1", "1.5", "nan", "inf", "much"])
@pytest.mark.parametrize("option", ["--max-excess", "--max-asr"])
@pytest.mark.parametrize("command", ["select", "confirm"])
def test_a_bound_is_a_share(run_dir: Path, command: str, option: str, bound: str) -> None:
    result = call(command, str(run_dir), option, bound)
    assert result.exit_code == 2
    if bound == "much":
        assert option in result.stderr
    else:
        assert sentence(result) == f"{option} must lie in [0, 1], but got {float(bound):g}."


def test_frontier_of_one_sweep(run_dir: Path) -> None:
    result = call("frontier", str(run_dir))
    assert result.exit_code == 0, result.output
    assert "hypervolume" in result.stdout
    assert "one seed" in result.stdout
    assert (run_dir / "frontier.png").read_bytes().startswith(b"\x89PNG")
    table = pq.read_table(run_dir / "frontier.parquet").to_pandas()
    assert table["on_frontier"].tolist() == [True, True, True]


def test_frontier_of_two_sweeps_goes_to_the_first_or_where_it_is_told(run_dir: Path, tmp_path: Path) -> None:
    second = sweep_at(tmp_path / "second")
    for arguments, target in (((), run_dir), (("--out", "both"), tmp_path / "both")):
        result = call("frontier", str(run_dir), str(second), *arguments)
        assert result.exit_code == 0, result.output
        table = pq.read_table(target / "frontier.parquet").to_pandas()
        assert sorted(table["trials"]) == [f"{s}/t000{i}" for s in ("made", "second") for i in range(3)]
    assert not (second / "frontier.png").exists()


def test_sweeps_of_one_name_are_told_apart_by_where_they_lie(run_dir: Path, tmp_path: Path) -> None:
    other = sweep_at(tmp_path / "else" / run_dir.name)
    assert call("frontier", str(run_dir), str(other)).exit_code == 0
    table = pq.read_table(run_dir / "frontier.parquet").to_pandas()
    assert {trial.removesuffix("/t0000") for trial in table["trials"] if trial.endswith("/t0000")} == {
        f"{tmp_path.name}/made", "else/made",
    }  # fmt: skip
    assert "made is given twice" in sentence(call("frontier", str(run_dir), f"{run_dir}/../made"))


def test_frontier_needs_sweeps_and_a_place_to_write(run_dir: Path, tmp_path: Path) -> None:
    assert "holds no sweep" in sentence(call("frontier", str(run_dir), str(tmp_path / "gone")))
    (tmp_path / "file").write_text("")
    assert "file/x cannot be written" in sentence(call("frontier", str(run_dir), "--out", "file/x"))


def test_frontier_of_a_sweep_of_which_nothing_finished(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "none")
    folder.write_sweep(SWEEP)
    write_rows(folder, [row_with(status="FAILED", val_acc=None, val_asr=None, error="The loss is nan.")])
    result = call("frontier", str(tmp_path / "none"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "none" / "frontier.png").exists()


@pytest.mark.parametrize("confidence", ["0.2", "1", "nan"])
def test_a_confidence_lies_between_a_half_and_one(run_dir: Path, confidence: str) -> None:
    text = sentence(call("select", str(run_dir), "--max-asr", "0.1", "--confidence", confidence))
    assert "--confidence must lie in [0.5, 1)" in text


def test_without_a_test_there_is_no_confidence(run_dir: Path) -> None:
    text = sentence(call("select", str(run_dir), "--max-asr", "0.1", "--confidence", "0.9"), code=3)
    assert text == (
        "No setting is certified, since no test was begun in this run folder. Run sweeper confirm "
        f"{run_dir} --max-asr 0.1 --confidence 0.9 first."
    )


def test_select_writes_the_certified_setting_and_says_what_is_guaranteed(run_dir: Path) -> None:
    folder = RunFolder(run_dir)
    rows = as_rows(folder.read_trials().drop(columns="constraints_kept"))
    write_rows(folder, [*rows, *replicate_rows("config1", [0.0] * 32)])
    write_certificate(run_dir, good(candidates=[setting_named("config1")]))
    result = call("select", str(run_dir), "--max-excess", "0.1", "--confidence", "0.95")
    assert result.exit_code == 0, result.output
    assert "the trigger adds at most 0.10 to the mean worst attack success (test_asr_excess); this" in result.stdout
    assert "In the search: vab config1 (t0001): val_acc 0.800" in result.stdout
    assert "before deploying" not in result.stdout
    content = yaml.safe_load((run_dir / "deploy.yaml").read_text())
    assert (content["certified"]["replicates"], content["source"]["config_id"]) == (32, "config1")
    for more, text in (
        (("--max-asr", "0.2"), "--max-asr was not tested"),
        (("--min-acc", "0.8"), "its mean test_acc of 0.700 is below 0.8. "),
        (("--defense", "bcu"), "leave out --defense bcu"),
    ):
        result = call("select", str(run_dir), "--max-excess", "0.1", "--confidence", "0.95", *more)
        assert text in sentence(result, code=3)


def test_a_test_that_certified_nothing_exits_3(run_dir: Path) -> None:
    write_certificate(run_dir, certificate_of([step(0, 1.0)], None))
    text = sentence(call("select", str(run_dir), "--max-excess", "0.1", "--confidence", "0.95"), code=3)
    assert text.endswith("at confidence 0.95: vab a given up after 1 replicate.")


def test_select_shows_the_spread_and_warns_of_the_best_of_many(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "seeds")
    folder.write_sweep(SWEEP)
    rows = [row_with("t0", "a", seed=s, val_acc=0.8 + s / 100, val_asr=0.1, **params()) for s in (0, 1)]
    write_rows(folder, rows)
    result = call("select", str(folder.path), "--max-asr", "0.2")
    attack = "worst val_asr_excess 0.050 ± 0.000 (val_asr 0.100 ± 0.000, floor 0.050, control 1.000), worst val_asr 0.1"
    assert f"val_acc 0.805 ± 0.007, {attack}" in result.stdout
    assert "looks better than it is" in result.stdout
    content = yaml.safe_load(folder.deploy.read_text())
    assert (content["seeds"], content["val_acc_sd"]) == (2, pytest.approx(0.00707, abs=1e-5))


def test_settings_with_fresh_seeds_stand_below_the_frontier_without_bounds(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "again")
    folder.write_sweep(SWEEP)
    known = {"val_asr": 0.1, "val_min_class_acc": 0.6,
             "val_class_counts": json.dumps([["cat", 600, 1000], ["dog", 900, 1000]])}  # fmt: skip
    again = [row_with(f"k{seed}", "a", role="confirmation", seed=seed, **known, **params()) for seed in (1, 2, 3)]
    write_rows(folder, [control_row(), row_with("t0", "a", **params()), *again])
    shown = call("frontier", str(folder.path)).stdout.split("Trained again with fresh seeds")[1]
    headings, line = (row for row in map(str.strip, shown.splitlines()) if row.startswith(("config_id", "a ")))
    assert headings.split("worst class")[1].split() == ["excess", "val_asr", "floor"]
    assert line.split()[-10:] == ["0.600", "±", "0.000", "0.050", "±", "0.000", "0.100", "±", "0.000", "0.050"]

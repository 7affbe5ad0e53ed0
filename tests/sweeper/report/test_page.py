"""What stands on the page, read back from its file; the page in a browser is in test_report_browser.py."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.analysis.frontier import points
from sweeper.analysis.importance import importances
from sweeper.preset.spec import validate
from sweeper.report.page import rewrite_report, write_report
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import as_rows
from tests.sweeper.small import control_row, frame_of, make_objectives, row_with, sweep_with, write_rows
from trainers.errors import ConfigError


def written(
    path: Path, rows: list[dict[str, Any]], left_out: list[str] | None = None, **changes: Any
) -> tuple[str, dict[str, Any]]:
    """The page of these rows, and the data in it."""
    folder = RunFolder.create(path)
    folder.write_sweep(sweep_with(**changes) | ({} if left_out is None else {"left_out": left_out}))
    write_rows(folder, rows)
    frame = folder.read_trials()
    spec = validate(folder.read_sweep()["preset"], "sweep.yaml")
    text = write_report(folder, frame, points(frame), spec).read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return text, json.loads(found[1])


def setting(number: int, **changes: Any) -> dict[str, Any]:
    known = {"val_acc": 0.5 + number / 100, "val_asr": 0.01 * number, "asr_floor": 0.0,
             "param.defense.threshold": 0.1 + number / 100,
             "param.defense.mixing": ["none", "attention"][number % 2]}  # fmt: skip
    return row_with(f"t{number:04d}", f"config{number}", **(known | changes))


def test_an_attack_at_which_every_trial_left_its_race_is_an_environment_of_the_page(tmp_path: Path) -> None:
    left = {"trial_status": "PRUNED", "trial_error": "broken", "scenario": "blend", "attack": "blend"}
    rows = [control_row(), *(setting(n, seed=s) for n in range(12) for s in (0, 1))]
    _, data = written(tmp_path / "run", [*rows, setting(12, **left)])
    assert {point["environment"] for point in data["points"]} == {"badnets"}
    assert data["points"][3]["params"] == {"threshold": pytest.approx(0.13), "mixing": "attention"}


def test_the_page_needs_no_network_and_holds_every_setting(tmp_path: Path) -> None:
    rows = [control_row(), *(setting(n, seed=s) for n in range(12) for s in (0, 1))]
    text, data = written(tmp_path / "run", rows)
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)  # plotly's own code names addresses
    assert "//" not in outside
    assert "<script src" not in text
    assert [p["config_id"] for p in data["points"]] == [f"config{n}" for n in range(12)]
    assert data["points"][3]["params"] == {"threshold": pytest.approx(0.13), "mixing": "attention"}
    assert data["points"][3]["seeds"] == 2
    assert (data["params"], data["environments"]) == (["mixing", "threshold"], [""])
    assert "12 trials (12 finished) over 2 seeds, on 200 training and 100 test images of shapes." in text
    assert "All trials finished." in text
    assert "git_commit" not in text
    assert "<dd>123</dd>" in text


def test_a_parameter_that_had_no_part_in_a_setting_is_not_shown(tmp_path: Path) -> None:
    """Its default stands in the table all the same, and would look like a choice in the heat map."""
    defense = {
        "name": "vab",
        "mixing": {"categorical": ["none", "attention"]},
        "mask_threshold": {"float": [0.0, 0.5], "when": {"mixing": "attention"}},
    }
    masks = {f"t{n}": {"param.defense.mask_threshold": value} for n, value in enumerate((0.1, 0.4, 0.1, 0.3))}
    rows = [control_row(), *(setting(n, **masks[f"t{n}"]) for n in range(4))]
    _, data = written(tmp_path / "run", rows, defense=defense)
    shown = {p["config_id"]: (p["params"]["mixing"], p["params"]["mask_threshold"]) for p in data["points"]}
    assert shown == {
        "config0": ("none", None), "config1": ("attention", 0.4),
        "config2": ("none", None), "config3": ("attention", 0.3),
    }  # fmt: skip


def test_settings_that_were_run_again_stand_on_the_page(tmp_path: Path) -> None:
    again = [
        setting(3, seed=seed, role="confirmation", val_asr=0.1 * seed) | {"trial_id": f"k{seed}"} for seed in (1, 2)
    ]
    text, data = written(tmp_path / "run", [control_row(), setting(3), setting(4), *again])
    (point,) = data["confirmed"]
    assert (point["config_id"], point["seeds"], point["val_asr"]) == ("config3", 2, pytest.approx(0.15))
    assert "how much it varies is unknown, except for confirmed settings." in text
    text, data = written(tmp_path / "other", [control_row(), setting(3), setting(4)])
    assert data["confirmed"] == []
    assert "how much it varies is unknown." in text


def test_thin_evidence_is_told(tmp_path: Path) -> None:
    text, _ = written(tmp_path / "thin", [control_row(), setting(3, n_eval=34, asr_floor=0.45)])
    assert "measured on as few as 34 images, so each image changes it by 0.029" in text
    assert "In badnets half of the models classify 45% or more of the images as the target class" in text
    text, _ = written(tmp_path / "enough", [control_row(), setting(3, n_eval=340, asr_floor=0.05)])
    assert "as few as" not in text
    assert "target class" not in text


def test_the_page_shows_balanced_accuracy_the_worst_class_and_lost_classes(tmp_path: Path) -> None:
    names = [f"<b>class {n}</b>" for n in range(9)]
    lost, plain = (json.dumps([[name, right, 10] for name in names]) for right in (0, 9))
    known = {"val_balanced_acc": 0.6, "val_min_class_acc": 0.2}
    rows = [setting(3, val_class_counts=lost, **known), setting(4, val_class_counts=plain, **known), setting(5)]
    again = [row_with(f"k{n}", "config3", role="confirmation", seed=n, val_asr=0.1, **known) for n in (1, 2, 3)]
    text, data = written(tmp_path / "run", [control_row(val_class_counts=plain), *rows, *again])
    first, second, third = data["points"]
    assert (first["val_balanced_acc"], first["val_min_class_acc"]) == (0.6, 0.2)
    assert first["lost_classes"] == ", ".join(names), "the page cuts it"
    assert (second["lost_classes"], third["lost_classes"], third["val_min_class_acc"]) == ("", None, None)
    assert "vab config3 has lost the classes &lt;b&gt;class 0&lt;/b&gt;, " in text
    _, (_, *figures, _) = section(text, "Settings with fresh seeds") or [[]]
    attack = ["0.050 ± 0.000", "0.100 ± 0.000", "0.050"]
    assert figures == ["3", "0.800 ± 0.000", "0.200 ± 0.000", *attack]


def test_attack_success_over_the_rates_with_control_and_floor(tmp_path: Path) -> None:
    rows = [
        control_row(poison_rate=0.05, val_asr=0.9), control_row(trial="c0001", poison_rate=0.1, val_asr=1.0),
        row_with("t0", poison_rate=0.05, val_asr=0.2), row_with("t1", poison_rate=0.05, val_asr=0.4),
        row_with("t2", poison_rate=0.1, val_asr=0.6, asr_floor=0.07),
    ]  # fmt: skip
    _, data = written(tmp_path / "run", rows)
    (scenario,) = data["rates"]
    assert scenario["scenario"] == "badnets"
    assert scenario["rates"] == [
        {"rate": 0.05, "settings": [0.2, 0.4], "median": pytest.approx(0.3), "added": pytest.approx(0.25),
         "control": 0.9, "floor": 0.05},
        {"rate": 0.1, "settings": [0.6], "median": 0.6, "added": pytest.approx(0.53), "control": 1.0, "floor": 0.07},
    ]  # fmt: skip
    assert data["environments"] == ["poison_rate=0.05", "poison_rate=0.1"]
    assert data["environment_params"] == ["poison_rate"]


def test_histograms_are_those_of_the_scores(tmp_path: Path) -> None:
    scores = pa.table({"suspicion": [0.0, 0.0, 0.99, 0.5], "poisoned": [False, False, True, False]})
    (tmp_path / "run").mkdir()
    folder = RunFolder(tmp_path / "run")
    folder.scores.mkdir()
    pq.write_table(scores, folder.scores / "t0000-badnets-0.parquet")
    moved = tmp_path / "scores"
    folder.scores.rename(moved)
    RunFolder.create(folder.path)
    _, empty = written(folder.path, [setting(0)])
    assert empty["histograms"] == []
    moved.rename(folder.scores)
    frame = folder.read_trials()
    write_report(folder, frame, points(frame), validate(folder.read_sweep()["preset"], "x"))
    text = folder.report.read_text()
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    (histogram,) = json.loads(found[1])["histograms"]
    assert histogram["title"] == "t0000 (vab): badnets at rate 0.1, seed 0"
    assert sum(histogram["clean"]) == pytest.approx(1)
    assert histogram["clean"][-1] == pytest.approx(2 / 3)  # entropy 1
    assert histogram["poisoned"][0] == pytest.approx(1)


def test_what_failed_and_why_and_nothing_of_it_runs(tmp_path: Path) -> None:
    nothing = {"val_acc": None, "val_asr": None}
    bad = "<script>alert(1)</script>"
    text, _ = written(
        tmp_path / "run",
        [row_with("t0", status="FAILED", error=bad, **nothing), row_with("t1", status="PRUNED", **nothing)],
        name="a-name",
    )
    assert bad not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "stopped early by the scheduler" in text
    assert "No trial finished." in text


def test_a_weak_attack_is_named(tmp_path: Path) -> None:
    text, data = written(tmp_path / "run", [setting(0, weak_attack=True, control_asr=0.2)])
    assert "Weak attack in badnets" in text
    assert data["points"][0]["weak"] == "badnets"


def test_importance_finds_the_parameter_that_matters() -> None:
    rows = [setting(n, val_acc=0.5 + (n % 2) / 5, val_asr=n / 100, scenario="badnets") for n in range(40)]
    frame = frame_of(control_row(), *rows)
    defense = {"name": "vab", "threshold": {"float": [0.0, 0.6]}, "mixing": {"categorical": ["none", "attention"]}}
    spec = validate(sweep_with(defense=defense)["preset"], "x")
    found, note = importances(spec, points(frame), frame)
    shares = {part["objective"]: dict(part["values"]) for part in found}
    assert set(shares["val_acc"]) == {"threshold", "mixing"}
    assert shares["val_acc"]["mixing"] > 0.8
    assert shares["val_asr_excess"]["threshold"] > 0.8
    assert "40 settings" in note


@pytest.mark.parametrize("count", [0, 1, 9])
def test_few_settings_say_nothing_about_importance(count: int) -> None:
    frame = frame_of(control_row(), *(setting(n) for n in range(count)))
    found, note = importances(validate(sweep_with()["preset"], "x"), points(frame), frame)
    assert found == []
    assert "too few" in note


ALPHA = "param.scenario.alpha"
ATTACKING = {
    "objectives": make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
    "constraints": [{"metric": "control_asr", "min": 0.8}],
    "scenarios": [{"attack": "blend", "alpha": {"float": [0.01, 1.0]}, "poison_rate": {"float": [0.01, 0.2]}}],
    "defense": {"name": "vab"},
}


def section(text: str, title: str) -> list[list[str]] | None:
    """The cells of the table under a heading, heads included; null if the page has no such section."""
    found = re.search(rf"<h2>{title}</h2>(.*?)</section>", text, re.DOTALL)
    if not found:
        return None
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", found[1], re.DOTALL)]


def test_the_attackers_of_an_attackers_sweep(tmp_path: Path) -> None:
    scores = pa.table({"suspicion": [0.0, 0.9], "poisoned": [False, True]})
    folder = RunFolder.create(tmp_path / "run")
    folder.scores.mkdir()
    for trial in ("t0", "t1"):
        pq.write_table(scores, folder.scores / f"{trial}-blend-0.parquet")
    folder.write_sweep(sweep_with(**ATTACKING))
    known = {"config": "one", "scenario": "blend", "detection_auroc": 0.75}
    write_rows(folder, [
        row_with("t0", poison_rate=0.05, val_asr=0.9, **known, **{ALPHA: 0.3}),
        row_with("t1", poison_rate=0.1, val_asr=0.6, **known, **{ALPHA: 0.2}),
        row_with("t2", poison_rate=0.01, val_asr=1.0, control_asr=0.5, **known, **{ALPHA: 0.1}),
    ])  # fmt: skip
    frame = folder.read_trials()
    text = write_report(folder, frame, points(frame), validate(folder.read_sweep()["preset"], "x")).read_text()
    table = section(text, "Attackers")
    assert table is not None
    assert table[0][:4] == ["trial", "leads", "n", "poison_rate"]
    assert [[row[0], row[1], row[3], row[-1]] for row in table[1:]] == [
        ["t0", "yes", "0.050", "0.300"], ["t1", "", "0.100", "0.200"], ["t2", "constraint broken", "0.010", "0.100"],
    ]  # fmt: skip
    assert dict(zip(table[0], table[1], strict=True))["detection_auroc"] == "0.750"
    notes = re.findall(r'<p class="note">(.*?)</p>', text)
    assert any(note.startswith("The leading attackers are the best of 3 on the seeds") for note in notes)
    assert not any("Before deploying" in note for note in notes)
    histograms = re.findall(r'"title": ?"(t\d) \(vab\): blend at rate', text)
    assert histograms == ["t0"], "entropies are those of the attackers that lead"


def test_compared_defenses_have_colours_and_tables(tmp_path: Path) -> None:
    rows = [control_row(images_seen=600, seconds=1.0)]
    for number, defense in enumerate(("vab", "abl", "abl")):
        figures = {"val_acc": 0.6 + number / 10, "val_asr": number / 10, "images_seen": 900, "seconds": 2.0}
        rows.append(row_with(f"t{number}", f"config{number}", defense=defense, **figures))
    defenses = [{"name": "vab"}, {"name": "abl"}]
    text, data = written(tmp_path / "run", rows, defense=defenses)
    assert set(data["colours"]) == {"vab", "abl"}
    assert len(set(data["colours"].values())) == 2
    table = section(text, "Defenses side by side")
    assert table is not None
    grid = ["defense", "none (control)", "vab", "abl"]
    assert [row[0] for row in table] == ["defense", "abl", "vab", *grid, "attack", *["badnets 0.1"] * 3]
    assert [row[1] for row in table[8:]] == ["abl", "none (control)", "vab"]
    assert "ROC curves of each defense" not in text, "no defense left scores"
    alone, known = written(tmp_path / "alone", rows[:2])
    assert section(alone, "Defenses side by side") is None
    assert known["colours"] == {}


def test_a_defenders_sweep_has_no_attackers_and_one_rate_no_breaking_point(tmp_path: Path) -> None:
    text, _ = written(tmp_path / "run", [control_row(), setting(0), setting(1)])
    assert section(text, "Attackers") is None
    assert section(text, "Breaking points") is None
    assert "were left out" not in text


def test_where_each_setting_breaks(tmp_path: Path) -> None:
    rows = [
        *(control_row(trial=f"c{rate}", poison_rate=rate, val_asr=asr) for rate, asr in ((0.01, 0.6), (0.1, 1.0))),
        *(row_with(f"t{n}", "a", poison_rate=rate, val_asr=asr) for n, (rate, asr) in
          enumerate(((0.01, 0.1), (0.05, 0.3), (0.1, 0.7)))),
        *(row_with(f"s{n}", "b", poison_rate=rate, val_asr=0.1) for n, rate in enumerate((0.01, 0.1))),
    ]  # fmt: skip
    text, _ = written(
        tmp_path / "run", rows, scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.01, 0.1]}}]
    )
    assert section(text, "Breaking points") == [
        ["scenario", "config_id", "defense", "breaks at", "excess", "val_asr", "floor", "val_acc", "no defense",
         "excess", "val_asr", "n"],
        ["badnets", "a", "vab", "0.1 (not 0.05)", "0.650", "0.700", "0.050", "0.800", "0.01 or less", "0.550", "0.600",
         "1"],
        ["badnets", "b", "vab", "not up to 0.1", "-", "-", "-", "-", "0.01 or less", "0.550", "0.600", "1"],
    ]  # fmt: skip


def test_attackers_of_one_rate_are_told_apart(tmp_path: Path) -> None:
    rows = [
        row_with(f"t{n}", "a", scenario="blend", val_asr=asr, **{ALPHA: alpha})
        for n, (alpha, asr) in enumerate(((0.1, 0.2), (0.3, 0.9)))
    ]
    _, data = written(tmp_path / "run", rows)
    ((rate,),) = [part["rates"] for part in data["rates"]]
    assert rate["settings"] == [0.2, 0.9]
    assert rate["median"] == pytest.approx(0.55)


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    left_out = ["badnets at rate 0.002 (6 poisoned images)", "sig at rate 0.9 (<only> 50 can be poisoned)"]
    text, _ = written(tmp_path / "run", [control_row(), setting(0)], left_out)
    assert re.findall(r"<li>(.*?)</li>", text) == [
        "badnets at rate 0.002 (6 poisoned images)", "sig at rate 0.9 (&lt;only&gt; 50 can be poisoned)",
    ]  # fmt: skip


def attacker(number: int, **changes: Any) -> dict[str, Any]:
    """An attacker whose opacity decides on success, and whose rate on nothing."""
    alpha = (1 + number * 7 % 40) / 40
    known = {"scenario": "blend", "poison_rate": 0.01 + number / 250, "val_asr": alpha, "val_acc": 0.8, ALPHA: alpha}
    return row_with(f"t{number:04d}", "one setting", **(known | changes))


def test_importance_in_an_attackers_sweep_is_that_of_the_attacks_parameters() -> None:
    spec = validate(sweep_with(**ATTACKING)["preset"], "x")
    frame = frame_of(*(attacker(n) for n in range(40)))
    found, _ = importances(spec, points(frame), frame)
    (part,) = found  # accuracy is the same for all, and has nothing to explain
    assert part["objective"] == "val_asr"
    shares = dict(part["values"])
    assert set(shares) == {"alpha", "poison_rate"}
    assert shares["alpha"] > 0.8


def test_importance_of_every_scenarios_parameters_where_a_trial_meets_all() -> None:
    blend = {"attack": "blend", "alpha": {"float": [0.01, 1.0]}}
    scenarios = [{**blend, "name": "first"}, {**blend, "name": "second"}]
    spec = validate(sweep_with(**(ATTACKING | {"scenarios": scenarios}))["preset"], "x")
    rows = []
    for number in range(40):
        alpha, other = (1 + number * 7 % 40) / 40, (1 + number * 11 % 40) / 40
        rows += [attacker(number, scenario="first", poison_rate=0.1, val_asr=alpha / 4, **{ALPHA: other}),
                 attacker(number, scenario="second", poison_rate=0.1, val_asr=alpha, **{ALPHA: alpha})]  # fmt: skip
    frame = frame_of(*rows)
    found, _ = importances(spec, points(frame), frame)
    shares = dict(found[0]["values"])
    assert set(shares) == {"first.alpha", "second.alpha"}, "both are called alpha"
    assert shares["second.alpha"] > 0.8


def test_importance_of_which_scenario_is_met() -> None:
    scenarios = [{"attack": "badnets"}, {"attack": "blend", "alpha": {"categorical": [0.1, 0.2]}}]
    defense = {"name": "vab", "mixing": {"categorical": ["none", "attention"]}}
    changes = {"scenarios": scenarios, "defense": defense, "search": {"sampler": "grid", "scenarios": "one"}}
    spec = validate(sweep_with(**changes)["preset"], "x")
    names = [("badnets", None), ("blend", 0.1), ("blend", 0.2)]
    rows = [
        row_with(f"t{n:04d}", f"config{n % 2}", scenario=names[n % 3][0], val_asr=0.1 + 0.6 * (n % 3 == 0), val_acc=0.7,
                 **{"param.defense.mixing": ["none", "attention"][n % 2], ALPHA: names[n % 3][1]})
        for n in range(6)
    ]  # fmt: skip
    extra = [row | {"trial_id": f"u{row['trial_id']}", "config_id": f"x{row['config_id']}"} for row in rows]
    frame = frame_of(*rows, *extra)
    found, _ = importances(spec, points(frame), frame)
    shares = {part["objective"]: dict(part["values"]) for part in found}["val_asr_excess"]
    assert set(shares) == {"scenario", "mixing"}, "a parameter of one scenario is not there for all"
    assert shares["scenario"] > 0.8


def test_rows_of_the_page_are_plain(tmp_path: Path) -> None:
    _, data = written(tmp_path / "run", [setting(0, test_asr=None), setting(1)])
    assert data["points"][0]["test_asr"] is None
    assert as_rows(points(RunFolder(tmp_path / "run").read_trials()))[0]["test_asr"] is None


def test_a_page_is_made_from_the_run_folder_alone_and_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_sweep(sweep_with())
    write_rows(folder, [control_row(), *(setting(n) for n in range(3))])
    assert "config2" in rewrite_report(folder).read_text()
    folder.report.unlink()
    folder.report.mkdir()
    with pytest.raises(ConfigError, match=r"report\.html cannot be written: Is a directory"):
        rewrite_report(folder)

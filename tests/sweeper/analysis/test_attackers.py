import io
from typing import Any

import pytest
from rich.console import Console

from sweeper.analysis.attackers import FIGURES, attackers
from sweeper.cli.tables import MOST_ATTACKERS, print_attackers
from sweeper.preset.spec import SweepSpec
from sweeper.report.summary import notes
from sweeper.report.tables import attacker_rows
from sweeper.run_folder.tables import as_rows
from tests.sweeper.small import ONE_SETTING, control_row, frame_of, make_objectives, row_with, spec_with

ALPHA, SIZE = "param.scenario.alpha", "param.scenario.size"


def spec(**changes: Any) -> SweepSpec:
    known = {
        "defense": ONE_SETTING,
        "objectives": make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
        "constraints": [{"metric": "control_asr", "min": 0.8}],
    }
    return spec_with(**(known | changes))


def attacker(trial: str, rate: float, asr: float | None, **changes: Any) -> dict[str, Any]:
    return row_with(trial, "one setting", poison_rate=rate, val_asr=asr, **changes)


def leading(*rows: dict[str, Any], **changes: Any) -> set[str]:
    table = attackers(frame_of(*rows), spec(**changes))
    return set(table.loc[table["leads"], "trial_id"])


def test_those_lead_whom_no_sound_one_beats() -> None:
    rows = [
        attacker("t0", 0.10, 0.9),
        attacker("t1", 0.05, 0.9),  # as good with less poison
        attacker("t2", 0.02, 0.5),
        attacker("t3", 0.03, 0.5),  # beaten by t2
        attacker("t4", 0.20, 0.95),
        attacker("t5", 0.01, 1.0, control_asr=0.79),  # would beat all, but does not work by itself
        attacker("t6", 0.02, 0.5, control_asr=0.8),  # as t2: none beats the other
    ]
    assert leading(*rows) == {"t1", "t2", "t4", "t6"}
    table = attackers(frame_of(*rows), spec()).set_index("trial_id")
    assert table["sound"].to_dict() == {name: name != "t5" for name in ("t0", "t1", "t2", "t3", "t4", "t5", "t6")}
    assert leading(*rows, constraints=[]) == {"t5"}


def test_the_leading_ones_come_first_and_the_unsound_last() -> None:
    rows = [
        attacker("t0", 0.2, 0.7), attacker("t1", 0.01, 0.3), attacker("t2", 0.1, 0.8),
        attacker("t3", 0.1, 1.0, control_asr=0.1),
    ]  # fmt: skip
    assert attackers(frame_of(*rows), spec())["trial_id"].tolist() == ["t2", "t1", "t0", "t3"]


def test_attackers_come_in_the_order_of_the_success_that_they_maximize() -> None:
    """At a high floor attack success is high, and the trigger adds little."""
    rows = [attacker("t0", 0.1, 0.9, asr_floor=0.8), attacker("t1", 0.1, 0.7)]
    by_excess = make_objectives(("val_asr_excess", "maximize"), ("poison_rate", "minimize"))
    assert attackers(frame_of(*rows), spec())["trial_id"].tolist() == ["t0", "t1"]
    table = attackers(frame_of(*rows), spec(objectives=by_excess))
    assert table["trial_id"].tolist() == ["t1", "t0"]
    assert table["leads"].tolist() == [True, False]
    assert table["val_asr_excess"].tolist() == pytest.approx([0.65, 0.1])
    headings, lines = attacker_rows(table)
    shown = dict(zip(headings, lines[1], strict=True))
    assert (shown["val_asr"], shown["asr_floor"], shown["val_asr_excess"]) == ("0.900", "0.800", "0.100")


def test_figures_are_means_over_seeds_with_their_spread() -> None:
    rows = [
        attacker("t0", 0.1, asr, seed=seed, detection_auroc=auroc, val_acc=acc, control_asr=control, asr_floor=floor)
        for seed, asr, auroc, acc, control, floor in (
            (0, 0.6, 0.9, 0.8, 1.0, 0.02), (1, 0.8, 0.5, 0.7, 0.9, 0.04)
        )
    ]  # fmt: skip
    (row,) = as_rows(attackers(frame_of(*rows), spec()))
    means = {"val_asr": 0.7, "detection_auroc": 0.7, "val_acc": 0.75, "control_asr": 0.95, "asr_floor": 0.03}
    assert {name: row[name] for name in means} == pytest.approx(means)
    assert row["val_asr_sd"] == pytest.approx(0.1 * 2**0.5)
    assert row["detection_auroc_sd"] == pytest.approx(0.2 * 2**0.5)
    assert (row["seeds"], row["poison_rate"]) == (2, 0.1)
    (alone,) = as_rows(attackers(frame_of(rows[0]), spec()))
    assert (alone["seeds"], alone["val_asr_sd"]) == (1, None)


def test_one_seed_in_which_the_attack_is_weak_can_be_made_up_for_by_another() -> None:
    # The constraint is on the mean over seeds.
    rows = [attacker("t0", 0.1, 0.9, seed=seed, control_asr=control) for seed, control in ((0, 0.7), (1, 0.9))]
    assert leading(*rows) == {"t0"}
    assert leading(*rows, constraints=[{"metric": "control_asr", "min": 0.81}]) == set()


def test_only_finished_trials_are_attackers() -> None:
    rows = [
        attacker("t0", 0.1, 0.5), attacker("t1", 0.01, None, status="FAILED"), control_row(poison_rate=0.01),
        attacker("k0", 0.01, 1.0, role="confirmation"),
    ]  # fmt: skip
    assert attackers(frame_of(*rows), spec())["trial_id"].tolist() == ["t0"]


def test_what_each_attacker_chose_has_a_column() -> None:
    rows = [
        attacker("t0", 0.1, 0.5, target=1, **{ALPHA: 0.1, SIZE: 3}),
        attacker("t1", 0.1, 0.4, target=2, **{ALPHA: 0.2, SIZE: 3}),
    ]
    columns, lines = attacker_rows(attackers(frame_of(*rows), spec()))
    assert columns == ["trial", "leads", "n", *FIGURES, "target", "alpha"]
    assert [line[-2:] for line in lines] == [["1", "0.100"], ["2", "0.200"]]


def test_where_each_meets_one_scenario_it_is_named_and_has_its_own_parameters() -> None:
    rows = [
        attacker("t0", 0.1, 0.6, scenario="blend", **{ALPHA: 0.1}),
        attacker("t1", 0.1, 0.5, scenario="blend", **{ALPHA: 0.2}),
        attacker("t2", 0.1, 0.4, scenario="slow_release", **{ALPHA: 0.3}),
        attacker("t3", 0.1, 0.3, scenario="badnets", **{SIZE: 2}),
        attacker("t4", 0.1, 0.2, scenario="badnets", **{SIZE: 3}),
    ]
    columns, lines = attacker_rows(attackers(frame_of(*rows), spec()))
    assert columns[-3:] == ["scenario", "size", "alpha"]
    assert [line[-3:] for line in lines] == [
        ["blend", "-", "0.100"], ["blend", "-", "0.200"], ["slow_release", "-", "-"],  # its alpha is always 0.3
        ["badnets", "2", "-"], ["badnets", "3", "-"],
    ]  # fmt: skip


def test_where_each_meets_all_scenarios_every_ones_parameters_are_there() -> None:
    rows = [
        attacker(trial, rate, 0.5, scenario=scenario, **{ALPHA: alpha})
        for trial, alphas in (("t0", (0.1, 0.3)), ("t1", (0.2, 0.4)))
        for scenario, rate, alpha in zip(("blend", "laundry"), (0.1, 0.2), alphas, strict=True)
    ]
    table = attackers(frame_of(*rows), spec()).set_index("trial_id")
    assert table["blend alpha"].to_dict() == {"t0": 0.1, "t1": 0.2}
    assert table["laundry alpha"].to_dict() == {"t0": 0.3, "t1": 0.4}
    assert table["poison_rate"].tolist() == pytest.approx([0.15, 0.15])
    assert "scenario" not in table


def test_words_for_who_leads_and_who_is_unsound() -> None:
    rows = [
        attacker("t0", 0.1, 0.9, seed=0), attacker("t0", 0.1, 0.7, seed=1), attacker("t1", 0.2, 0.5),
        attacker("t2", 0.2, 0.5, control_asr=None),
    ]  # fmt: skip
    _, lines = attacker_rows(attackers(frame_of(*rows), spec()))
    assert [line[:3] for line in lines] == [["t0", "yes", "2"], ["t1", "", "1"], ["t2", "constraint broken", "1"]]
    assert lines[0][3:6] == ["0.100", "1.000", "0.800 ± 0.141"]
    assert lines[2][4] == "-"


def test_no_attacker_is_a_table_too() -> None:
    table = attackers(frame_of(attacker("t0", 0.1, None, status="FAILED")), spec())
    assert len(table) == 0
    assert attacker_rows(table) == (["trial", "leads", "n", *FIGURES], [])


def test_confirming_runs_go_under_the_attacker_that_they_repeat() -> None:
    rows = [attacker("t0", 0.1, 0.9, **{ALPHA: 0.1}), attacker("t1", 0.1, 0.8, **{ALPHA: 0.2})]
    for seed, asr in ((5, 0.5), (6, 0.7)):
        rows.append(attacker(f"k{seed}", 0.1, asr, role="confirmation", seed=seed, **{ALPHA: 0.2}))
    again = attackers(frame_of(*rows), spec(), "confirmation")
    assert again[["trial_id", "seeds"]].values.tolist() == [["t1", 2]]
    assert again["val_asr"].item() == pytest.approx(0.6)
    assert attackers(frame_of(*rows), spec())["trial_id"].tolist() == ["t0", "t1"], "the search is as it was"
    console = Console(file=io.StringIO(), width=200)
    print_attackers(console, attackers(frame_of(*rows), spec()), again)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.600 ± 0.141" in text.split("Confirmed with fresh seeds")[1]


def test_a_confirming_run_is_told_by_all_its_scenarios_and_nulls_are_values() -> None:
    """Two attackers share their second scenario; parameters of the other attack are null in every row."""

    def trial(name: str, size: int, role: str = "trial", seed: int = 0) -> list[dict[str, Any]]:
        known = {"role": role, "seed": seed, "config": "one setting"}
        first = row_with(name, scenario="badnets", **known, **{SIZE: size, ALPHA: None})
        return [first, row_with(name, scenario="blend", **known, **{SIZE: None, ALPHA: 0.2})]

    rows = [*trial("t0", 2), *trial("t1", 3), *trial("k0", 3, "confirmation", 5), *trial("k1", 2, "confirmation", 5)]
    again = attackers(frame_of(*rows), spec(), "confirmation")
    assert again[["trial_id", "seeds"]].sort_values("trial_id").values.tolist() == [["t0", 1], ["t1", 1]]
    of_t1 = attackers(frame_of(*trial("t0", 2), *trial("t1", 3), *trial("k0", 3, "confirmation", 5)), spec(),
                      "confirmation")  # fmt: skip
    assert of_t1["trial_id"].tolist() == ["t1"]


def test_a_leader_that_only_broke_the_model_is_named() -> None:
    rows = [
        attacker("t0", 0.1, 0.55, asr_floor=0.5),
        attacker("t1", 0.05, 0.3),
        attacker("t2", 0.2, 0.2, asr_floor=0.2),
    ]
    found = notes(attackers(frame_of(*rows), spec()))
    assert found[1].startswith("t0: attack success is hardly above asr_floor")
    assert len(notes(attackers(frame_of(rows[1]), spec()))) == 1


def test_the_screen_shows_the_first_and_says_how_many_more_there_are() -> None:
    def printed(count: int) -> str:
        console = Console(file=io.StringIO(), width=200)
        rows = [attacker(f"t{n:04d}", 0.1, n / 100, **{ALPHA: n / 100}) for n in range(count)]
        print_attackers(console, attackers(frame_of(*rows), spec()), frame_of())
        return console.file.getvalue()  # type: ignore[attr-defined]

    text = printed(MOST_ATTACKERS + 3)
    assert "t0022" in text
    assert "t0003" in text
    assert "t0002" not in text
    assert "3 more attackers are in trials.parquet and in the report." in text
    assert "more attackers" not in printed(MOST_ATTACKERS)

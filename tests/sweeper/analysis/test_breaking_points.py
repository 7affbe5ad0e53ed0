import io
import math
from typing import Any

import pytest
from rich.console import Console

from sweeper.analysis.breaking_points import Break, BreakingPoint, breaking_points, has_rates, success_by_rate
from sweeper.cli.tables import print_breaking
from sweeper.report.tables import breaking_rows
from sweeper.run_folder.tables import as_rows
from tests.sweeper.small import control_row, frame_of, row_with

RATES = (0.01, 0.05, 0.1)
ALPHA = "param.scenario.alpha"


def against(config: str, *asr: float | None, rates: tuple[float, ...] = RATES, **changes: Any) -> list[dict[str, Any]]:
    """A setting at these rates, by what the trigger adds to a floor of 0.05."""
    return [
        row_with(f"{config}-{rate}", config, poison_rate=rate, **attacked(value), **changes)
        for rate, value in zip(rates, asr, strict=True)
    ]


def attacked(excess: float | None) -> dict[str, Any]:
    if excess is None:
        return {"val_asr": None}
    return {"val_asr": round(excess + 0.05, 9), "asr_floor": 0.05, "val_asr_excess": excess}


def undefended(*asr: float, rates: tuple[float, ...] = RATES, **changes: Any) -> list[dict[str, Any]]:
    return [
        control_row(trial=f"c{rate}", poison_rate=rate, **attacked(value), **changes)
        for rate, value in zip(rates, asr, strict=True)
    ]


def found(points: list[BreakingPoint]) -> list[tuple[Any, ...]]:
    return [(point.scenario, point.config_id, point.defended.rate, point.undefended.rate) for point in points]


def test_the_smallest_rate_that_reaches_a_half_counts() -> None:
    frame = frame_of(*undefended(0.5, 0.9, 1.0), *against("a", 0.1, 0.49, 0.51), *against("b", 0.7, 0.2, 0.9))
    points = breaking_points(frame)
    assert found(points) == [("badnets", "a", 0.1, 0.01), ("badnets", "b", 0.01, 0.01)]
    assert points[0].defense == "vab"
    assert points[0].defended == Break(0.1, 0.05, 0.1, 0.51, None, 0.56, None, 0.05, 0.8, 1)


def test_a_model_that_collapsed_onto_the_target_class_was_not_broken_by_the_trigger() -> None:
    collapsed = {"val_asr": 0.9, "asr_floor": 0.8}
    rows = [row_with(f"a-{rate}", "a", poison_rate=rate, **collapsed) for rate in RATES]
    (point,) = breaking_points(frame_of(*rows, *undefended(0.1, 0.9, 0.9)))
    assert (str(point.defended), point.undefended.rate) == ("not up to 0.1", 0.05)


def test_it_is_the_mean_over_seeds_that_must_reach_a_half() -> None:
    frame = frame_of(
        *against("a", 0.4, 0.9, 0.9, seed=0), *against("a", 0.5, 0.0, 0.8, seed=1),
        *undefended(0.2, 0.2, 0.9, seed=0), *undefended(0.2, 0.9, 0.9, seed=1),
    )  # fmt: skip
    (point,) = breaking_points(frame)
    assert (point.defended.rate, point.undefended.rate, point.defended.seeds) == (0.1, 0.05, 2)
    assert point.defended.val_asr_excess_sd == pytest.approx(math.sqrt(2 * 0.05**2))
    assert (point.defended.val_asr, point.defended.val_asr_sd) == (pytest.approx(0.9), pytest.approx(0.05 * 2**0.5))
    by_rate = success_by_rate(frame).set_index(["config_id", "poison_rate"])
    assert by_rate.loc[("a", 0.05), "val_asr_excess"] == pytest.approx(0.45)
    assert by_rate.loc[("a", 0.05), "val_asr"] == pytest.approx(0.5)
    assert by_rate.loc[("a", 0.05), "val_asr_sd"] == pytest.approx(math.sqrt(2 * 0.45**2))
    assert by_rate.loc[("a", 0.05), "seeds"] == 2


def test_a_setting_that_was_proposed_twice_is_no_more_seeds() -> None:
    once = [*against("a", 0.2, rates=(0.1,), seed=0), *against("a", 0.6, rates=(0.1,), seed=1)]
    twice = [row | {"trial_id": f"{row['trial_id']}-again"} for row in once if row["seed"] == 1]
    for rows in (once, once + twice):
        (point,) = as_rows(success_by_rate(frame_of(*rows)))
        assert (point["val_asr_excess"], point["seeds"]) == (pytest.approx(0.4), 2)
        assert point["val_asr_sd"] == pytest.approx(0.2 * math.sqrt(2))


def test_attacks_and_settings_are_looked_at_one_by_one() -> None:
    frame = frame_of(
        *against("a", 0.6, 0.6, 0.6, scenario="badnets"), *against("a", 0.1, 0.1, 0.1, scenario="blend"),
        *against("b", 0.1, 0.1, 0.6, scenario="blend"), *undefended(0.1, 0.6, 0.6, scenario="blend"),
    )  # fmt: skip
    first, *rest = found(breaking_points(frame))
    assert first == ("badnets", "a", 0.01, None)
    assert str(breaking_points(frame)[0].undefended) == "-", "no control of badnets finished"
    assert rest == [("blend", "a", None, 0.05), ("blend", "b", 0.1, 0.05)]


def test_an_attack_of_another_strength_is_another_attack() -> None:
    faint, strong = {ALPHA: 0.1}, {ALPHA: 0.2}
    frame = frame_of(
        *against("a", 0.0, 0.0, 0.4, scenario="blend", **faint),
        *against("a", 0.4, 0.8, 1.0, scenario="blend", **strong),
        *undefended(0.1, 0.4, 0.7, scenario="blend", **faint), *undefended(0.7, 0.8, 1.0, scenario="blend", **strong),
        *against("a", 0.5, 0.5, 0.5, scenario="tact", **{ALPHA: None}),
    )  # fmt: skip
    assert found(breaking_points(frame))[:2] == [
        ("blend, alpha=0.1", "a", None, 0.1), ("blend, alpha=0.2", "a", 0.05, 0.01),
    ]  # fmt: skip
    assert breaking_points(frame)[2].scenario == "tact"


def test_what_does_not_count() -> None:
    failed = {"status": "FAILED", "trial_status": "FAILED", "val_asr": None}
    frame = frame_of(
        *against("once", 0.9, rates=(0.05,)),  # one rate says nothing of where it breaks
        *against("clean", None, 0.1, rates=(0.0, 0.05)),
        *against("a", 0.9, 0.1, 0.9, role="confirmation"),
        *[row | failed for row in against("b", 0.9, 0.9, 0.9)],
    )
    assert breaking_points(frame) == []
    assert not has_rates(frame)
    assert sorted(success_by_rate(frame)["config_id"]) == ["clean", "once"]


def test_two_sweeps_have_controls_of_their_own() -> None:
    rows = [*against("a", 0.1, 0.6, 0.6), *undefended(0.6, 0.9, 0.9)]
    other = [*against("b", 0.1, 0.1, 0.6), *undefended(0.1, 0.6, 0.9)]
    frame = frame_of(*(row | {"sweep": "one"} for row in rows), *(row | {"sweep": "two"} for row in other))
    assert found(breaking_points(frame)) == [("one/badnets", "a", 0.05, 0.01), ("two/badnets", "b", 0.1, 0.05)]


@pytest.mark.parametrize(
    ("rows", "there_are"),
    [
        (against("a", 0.1, 0.1, 0.1), True),
        (against("a", 0.1, rates=(0.01,)) + against("b", 0.1, rates=(0.05,)), True),
        (against("a", 0.1, rates=(0.01,)) + undefended(0.1, 0.1, 0.1), False),
        (against("a", None, 0.1, rates=(0.0, 0.05)), False),
        (against("a", 0.1, rates=(0.01,), scenario="blend") + against("a", 0.1, rates=(0.05,)), False),
        # An attacker who changes everything at once compares no rates.
        (against("a", 0.1, rates=(0.01,), **{ALPHA: 0.1}) + against("a", 0.1, rates=(0.05,), **{ALPHA: 0.2}), False),
        ([row_with(status="FAILED")], False),
    ],
)
def test_whether_rates_were_compared(rows: list[dict[str, Any]], there_are: bool) -> None:
    assert has_rates(frame_of(*rows)) == there_are


@pytest.mark.parametrize(
    ("asr", "text"),
    [
        ((0.1, 0.2, 0.3), "not up to 0.1"), ((0.5, 0.2, 0.3), "0.01 or less"), ((0.1, 0.6, 0.9), "0.05 (not 0.01)"),
        ((0.1, 0.2, 0.9), "0.1 (not 0.05)"), ((None, 0.6, 0.9), "0.05 or less"), ((0.1, None, 0.9), "0.1 (not 0.01)"),
        ((0.1, 0.2, None), "not up to 0.05"), ((None, None, None), "-"),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_not_claimed(asr: tuple[float | None, ...], text: str) -> None:
    rows = [row if row["val_asr"] is not None else row | {"status": "FAILED"} for row in undefended(*asr)]  # type: ignore[arg-type]
    (point,) = breaking_points(frame_of(*rows, *against("a", 0.1, 0.1, 0.1)))
    assert str(point.undefended) == text
    assert str(point.defended) == "not up to 0.1", "each side has tried rates of its own"


def test_the_table_on_the_screen() -> None:
    def printed(rows: list[dict[str, Any]]) -> str:
        console = Console(file=io.StringIO(), width=200)
        print_breaking(console, frame_of(*rows))
        return console.file.getvalue()  # type: ignore[attr-defined]

    lines = printed([*undefended(0.9, 0.9, 0.9), *against("a", 0.1, 0.1, 0.1)]).splitlines()
    assert lines[0].startswith("Breaking point: the smallest poison rate with val_asr_excess 0.5 or more")
    (line,) = [line for line in lines if "badnets" in line]
    assert [part.strip() for part in line.split("  ") if part.strip()] == [
        "badnets", "a", "vab", "not up to 0.1", "-", "-", "-", "-", "0.01 or less", "0.900", "0.950", "1",
    ]  # fmt: skip
    seeds = [row for seed, asr in enumerate((0.6, 0.8)) for row in against("a", 0.1, asr, 0.9, seed=seed)]
    (line,) = [line for line in printed(seeds).splitlines() if "badnets" in line]
    assert [part.strip() for part in line.split("  ") if part.strip()] == [
        "badnets", "a", "vab", "0.05 (not 0.01)", "0.700 ± 0.141", "0.750 ± 0.141", "0.050", "0.800", "-", "-",
        "-", "2",
    ]  # fmt: skip
    assert printed(against("a", 0.1, rates=(0.01,)) + against("b", 0.1, rates=(0.05,))) == ""


def test_success_has_a_row_for_each_attack_rate_and_setting() -> None:
    frame = frame_of(*undefended(0.7, 0.8, 0.9), *against("a", 0.1, 0.2, 0.3, val_acc=0.6))
    names = ["poison_rate", "config_id", "defense", "val_acc", "val_asr_excess", "val_asr", "asr_floor"]
    rows = as_rows(success_by_rate(frame)[names].round(9))
    by_key = {(row["poison_rate"], row["config_id"]): tuple(row.values())[2:] for row in rows}
    assert by_key == {
        (0.01, "a"): ("vab", 0.6, 0.1, 0.15, 0.05), (0.01, None): ("none", 0.9, 0.7, 0.75, 0.05),
        (0.05, "a"): ("vab", 0.6, 0.2, 0.25, 0.05), (0.05, None): ("none", 0.9, 0.8, 0.85, 0.05),
        (0.1, "a"): ("vab", 0.6, 0.3, 0.35, 0.05), (0.1, None): ("none", 0.9, 0.9, 0.95, 0.05),
    }  # fmt: skip


def left_at(config: str, rate: float, *excess: float | None) -> list[dict[str, Any]]:
    """A setting whose trial left its race at this rate, by seed; null: this training did not run."""
    return [
        row_with(
            f"{config}-{rate}", config, poison_rate=rate, seed=seed, trial_status="PRUNED", trial_error="dominated",
            status="PRUNED" if value is None else "FINISHED", **attacked(value),
        )
        for seed, value in enumerate(excess)
    ]  # fmt: skip


LOW = against("a", 0.1, rates=RATES[:1])
HIGH = against("a", 0.9, 0.9, rates=RATES[1:])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # At the least 0.5 and 0.45.
        ([*LOW, *left_at("a", 0.05, 1.0, None)], "0.05 (not 0.01)"),
        ([*LOW, *left_at("a", 0.05, 0.9, None)], "not up to 0.01; left its race at 0.05"),
        (
            [*LOW, *left_at("a", 0.05, 0.9, None), *left_at("a", 0.1, 1.0, None)],
            "0.1 (not 0.01); left its race at 0.05",
        ),
        ([*left_at("a", 0.01, 0.1, None), *HIGH], "0.05 or less; left its race at 0.01"),
        ([*HIGH[:1], *left_at("a", 0.1, 0.1, None)], "0.05 or less"),
        ([*left_at("a", 0.01, 0.1, None), *left_at("a", 0.05, 0.1, None)], "-; left its race at 0.01, 0.05"),
        ([*left_at("a", 0.01, 0.1, None), *left_at("a", 0.05, 0.9, 0.9)], "0.05 or less; left its race at 0.01"),
    ],
)
def test_where_a_trial_left_its_race_no_break_is_overlooked(rows: list[dict[str, Any]], expected: str) -> None:
    (point,) = breaking_points(frame_of(*rows, *undefended(0.9, 0.9, 0.9)))
    assert (str(point.defended), str(point.undefended)) == (expected, "0.01 or less")
    assert breaking_rows([point])[0][3] == expected
    assert set(success_by_rate(frame_of(*rows))["poison_rate"]) == {
        row["poison_rate"] for row in rows if row["trial_status"] == "FINISHED"
    }


def test_of_a_setting_proposed_twice_the_whole_trial_counts() -> None:
    again = [row | {"trial_id": "again"} for row in left_at("a", 0.05, 0.1, None)]
    (point,) = breaking_points(frame_of(*against("a", 0.1, 0.2, 0.9), *again))
    assert str(point.defended) == "0.1 (not 0.05)"


def test_rates_at_which_trials_left_make_no_picture() -> None:
    assert not has_rates(frame_of(*against("a", 0.1, rates=RATES[:1]), *left_at("a", 0.05, 0.9, None)))

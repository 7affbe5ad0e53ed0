import pytest

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.frontier import points
from sweeper.analysis.left_out import broken_early, left_out, raced_out
from sweeper.analysis.selection import BoundsMissed, select
from sweeper.analysis.uncertainty import Over
from tests.sweeper.small import control_row, frame_of, make_objectives, row_with, spec_with

REASON = "val_asr_excess is at least 0.900, above the interest of 0.5"
ROWS = [
    control_row(),
    row_with("t0000"),
    row_with("t0000", seed=1),
    row_with("t0001", trial_status="PRUNED", trial_error=REASON),
    row_with("t0001", status="PRUNED", trial_status="PRUNED", seed=1, trial_error=REASON),
    row_with("t0002", status="FAILED", error="The loss is nan."),
    row_with("t0003", status="PRUNED"),  # by a scheduler, which gives no reason
]


def test_what_left_is_what_was_pruned_with_a_reason() -> None:
    assert raced_out(frame_of(*ROWS))["trial_id"].to_list() == ["t0001", "t0001"]


@pytest.mark.parametrize(
    ("search", "end"),
    [
        (
            {"race": "bounds"},
            "The frontier is that of all trials below a val_asr_excess of 0.5, to within 0.005 of attack success; it "
            "assumes that no training is more accurate than its control plus 0.02 (docs: racing).",
        ),
        (
            {"race": "learned", "interest": 1.0},
            "The frontier is that of all trials, to within 0.005 of attack success; it assumes that no training is "
            "more accurate than its control plus 0.02, or than the first trainings of its trial let expect (docs: "
            "racing).",
        ),
    ],
)
def test_what_was_left_out_and_what_that_assumes(search: dict[str, object], end: str) -> None:
    said = left_out(frame_of(*ROWS), spec_with(search=search))
    assert said == f"1 of 4 trials left their races, so 1 of 6 trainings were not needed. {end}"


@pytest.mark.parametrize("race", ["off", "learned"])
def test_with_asha_nothing_is_promised(race: str) -> None:
    said = left_out(frame_of(*ROWS), spec_with(search={"race": race, "scheduler": "asha"}))
    assert said == (
        "1 of 4 trials left their races or were stopped by asha, so 1 of 6 trainings did not run to their end. "
        "The frontier may lack settings that asha stopped (docs: racing)."
    )


def test_attackers_are_told_otherwise_and_whole_sweeps_nothing() -> None:
    attacking = spec_with(
        defense={"name": "vab"}, objectives=make_objectives(("val_asr", "maximize")), search={"race": "bounds"}
    )
    said = left_out(frame_of(*ROWS), attacking)
    assert said is not None
    assert said.endswith(
        "The leading attackers are those of all trainings, to within 0.005 of attack success (docs: racing)."
    )
    assert left_out(frame_of(*ROWS[:3]), spec_with()) is None


def pruned(trial: str, scenario: str, seed: int, excess: float | None, **changes: object) -> dict[str, object]:
    """A row of a trial that left its race; null: this training did not run."""
    ran = {"status": "FINISHED", "val_asr": (excess or 0) + 0.05, "val_asr_excess": excess}
    missing = {"status": "PRUNED", "val_acc": None, "val_asr": None, "val_asr_excess": None}
    state = missing if excess is None else ran
    more = {"scenario": scenario, "seed": seed, "trial_status": "PRUNED", "trial_error": REASON}
    return row_with(trial, **state | more | changes)


@pytest.mark.parametrize(
    ("over", "most", "expected"),
    [
        # Two seeds of each scenario: a is at 0.9 / 2 for sure, b at 0.2 / 2.
        ("worst", 0.44, {"config-t0001"}),
        ("worst", 0.46, set()),
        ("mean", 0.27, {"config-t0001"}),  # (0.45 + 0.1) / 2
        ("mean", 0.28, set()),
        ("cvar", 0.27, {"config-t0001"}),
    ],
)
def test_an_attack_that_broke_a_setting_for_sure_is_remembered(over: Over, most: float, expected: set[str]) -> None:
    frame = frame_of(
        pruned("t0001", "a", 0, 0.9), pruned("t0001", "a", 1, None), pruned("t0001", "b", 0, 0.2),
        pruned("t0001", "b", 1, None), row_with("t0002", val_asr=1.0),
    )  # fmt: skip
    assert set(broken_early(frame, AttackBounds(max_excess=most), over)) == expected


def test_attack_success_has_a_bound_of_its_own_and_weak_attacks_break_nothing() -> None:
    frame = frame_of(pruned("t0001", "a", 0, 0.5), pruned("t0002", "a", 0, 0.5, weak_attack=True))
    assert broken_early(frame, AttackBounds(max_asr=0.54), "worst") == {"config-t0001": REASON}
    assert broken_early(frame, AttackBounds(max_asr=0.56), "worst") == {}


def test_what_an_attack_broke_early_is_not_selected_on_the_word_of_another() -> None:
    """The same setting was tried at two poison rates, and left the race at the higher one."""
    kept = [row_with("t0000", "good", poison_rate=0.05, val_acc=0.6), row_with("t0001", "good", val_acc=0.8)]
    easy = row_with("t0003", "broken", poison_rate=0.05, val_acc=0.7)
    hard = pruned("t0004", "badnets", 0, 0.9, config="broken", poison_rate=0.1)
    assert select(frame_of(*kept, easy), 0.2).point["config_id"] == "broken"
    assert select(frame_of(*kept, easy, hard), 0.2).point["config_id"] == "good"
    with pytest.raises(BoundsMissed, match=r"left the race against another: val_asr_excess is at least 0\.900"):
        select(frame_of(kept[1], easy, hard), 0.2)


def one_by_one(*attacks: str) -> list[dict[str, object]]:
    """Two settings that keep BadNets out, and left their races at each of these attacks."""
    rows = [row_with("t0000", "a", val_acc=0.8), row_with("t0001", "b", val_acc=0.7)]
    for number, attack in enumerate(attacks):
        for config, acc in (("a", 0.6), ("b", 0.9)):
            trial, reason = f"t{config}{number}", f"{config} is broken by {attack}"
            ran = pruned(trial, attack, 0, 0.9, config=config, val_acc=acc, trial_error=reason)
            rows += [ran, pruned(trial, attack, 1, None, config=config, trial_error=reason)]
    return rows


def test_an_attack_that_breaks_every_setting_is_not_forgotten() -> None:
    assert select(frame_of(*one_by_one()), 0.2).point["environment"] == ""
    with pytest.raises(BoundsMissed) as error:
        select(frame_of(*one_by_one("blend")), 0.2)
    assert str(error.value) == (
        "No setting at blend finished, since every trial there left its race; nearest is vab b (tb0): b is broken by "
        "blend."
    )
    assert points(frame_of(*one_by_one("blend")))["environment"].to_list() == ["badnets"] * 2


def test_where_every_trial_left_its_race_the_reason_is_named() -> None:
    """Also if one poison rate, or the only attack, is looked at."""
    with pytest.raises(BoundsMissed, match=r"^No setting finished, since every trial left .*: b is broken by blend\.$"):
        select(frame_of(*one_by_one("blend")[2:]), 0.2)
    hard = [row | {"poison_rate": 0.2} for row in one_by_one("badnets")[2:]]
    frame = frame_of(*one_by_one(), *hard)
    with pytest.raises(BoundsMissed, match=r"^No setting at poison_rate=0\.2 finished"):
        select(frame, 0.2)
    with pytest.raises(BoundsMissed, match=r"^No setting finished"):
        select(frame, 0.2, poison_rate=0.2)
    assert select(frame, 0.2, poison_rate=0.1).point["environment"] == ""


def test_an_attack_that_fails_without_a_defense_may_make_trials_leave() -> None:
    """By a constraint, say: it is no evidence, and asks for no setting."""
    rows = one_by_one("blend")
    faint = [row | {"weak_attack": True, "control_asr": 0.3} for row in rows[2:]]
    chosen = select(frame_of(*rows[:2], *faint), 0.2)
    assert (chosen.point["environment"], chosen.no_evidence) == ("badnets", ["blend"])
    with pytest.raises(BoundsMissed, match=r"^No setting finished"):
        select(frame_of(*faint), 0.2)

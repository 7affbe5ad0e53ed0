import pytest

from sweeper.analysis.left_out import left_out, raced_out
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
            "The frontier is that of all trials below an attack success of 0.5; it assumes that no training is more "
            "accurate than its control plus 0.02 (docs: racing).",
        ),
        (
            {"race": "learned", "interest": 1.0},
            "The frontier is that of all trials; it assumes that no training is more accurate than its control plus "
            "0.02, or than the first trainings of its trial let expect (docs: racing).",
        ),
    ],
)
def test_what_was_left_out_and_what_that_assumes(search: dict[str, object], end: str) -> None:
    said = left_out(frame_of(*ROWS), spec_with(search=search))
    assert said == f"1 of 4 trials left their races, so 1 of 6 trainings were not needed. {end}"


def test_attackers_are_told_otherwise_and_whole_sweeps_nothing() -> None:
    attacking = spec_with(
        defense={"name": "vab"}, objectives=make_objectives(("val_asr", "maximize")), search={"race": "bounds"}
    )
    said = left_out(frame_of(*ROWS), attacking)
    assert said is not None
    assert said.endswith("The leading attackers are those of all trainings, whatever the missing ones had given.")
    assert left_out(frame_of(*ROWS[:3]), spec_with()) is None

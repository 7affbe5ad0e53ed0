"""What is said of the agreement of replicates."""

import numpy as np

from sweeper.deploy.agreement import agreement
from sweeper.deploy.agreement_report import agreement_lines, agreement_section
from sweeper.deploy.replicates import Replicates

CLASSES = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]])
MARKS = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1]], bool)


def of(classes: np.ndarray, marks: np.ndarray | None, failures: dict[int, str] | None = None) -> Replicates:
    failures = failures or {}
    seeds = tuple(seed for seed in range(9) if seed not in failures)[: len(classes)]
    return Replicates(seeds, failures, classes, marks, agreement(classes, marks))


def test_the_section_has_the_figures_and_says_what_they_do_not_show() -> None:
    text = "\n".join(agreement_section(of(CLASSES, MARKS), 4))
    assert text.startswith("## Agreement of 3 models\n")
    assert "the seeds 0, 1, 2. The model handed out is that of seed 1, whose predictions agree most with" in text
    assert "All figures are of the 4 training images, without augmentation" in text
    assert "| same predicted class | 50.0% | 25.0% |" in text
    assert "(Cohen's kappa) | -0.11 | -0.50 |" in text
    assert "(Jaccard index) | 0.47 | 0.25 |" in text
    assert "Images that are suspicious to all 3 models: 1; to at least one: 4." in text
    assert "**Agreement is low (kappa -0.11, below 0.8; Jaccard 0.47, below 0.5;" in text
    assert text.count("\n- ") == 5
    assert "Agreement is no evidence that there is no backdoor." in text


def test_lines_for_the_screen() -> None:
    assert agreement_lines(of(CLASSES, MARKS)) == [
        "3 models agree in the mean of pairs: same class for 50.0% of the images (kappa -0.11), suspicious images "
        "overlap by 0.47 (Jaccard).",
        "Agreement is low (kappa -0.11, below 0.8; Jaccard 0.47, below 0.5): the result depends on the seed.",
        "The model handed out is that of seed 1, whose predictions agree most with those of the others.",
    ]


def test_models_that_agree_are_not_called_low_and_of_two_the_first_is_handed_out() -> None:
    same = np.repeat(CLASSES[:1], 2, axis=0)
    assert agreement_lines(of(same, None)) == [
        "2 models agree in the mean of pairs: same class for 100.0% of the images (kappa 1.00).",
        "The model handed out is that of seed 0, the first: two models are equally near to each other.",
    ]
    text = "\n".join(agreement_section(of(same, None), 4))
    assert "low" not in text.split("What this shows")[0].replace("lowest", "")
    assert "suspicious" not in text, "the defense gives no verdicts"
    assert text.count("\n- ") == 3


def test_trainings_that_failed_are_named() -> None:
    found = of(CLASSES[:1], MARKS[:1], {0: "The `loss` is nan.", 2: "The loss is inf."})
    lines = agreement_section(found, 4)
    assert "**The training with seed 0 failed, and counts nowhere:** `The 'loss' is nan.`" in lines
    assert "**The training with seed 2 failed, and counts nowhere:** `The loss is inf.`" in lines
    assert "There is no second model to compare it with." in lines
    assert agreement_lines(found) == [
        "2 of 3 trainings failed; the report says why.",
        "Only the model of seed 1 was trained: nothing to compare it with.",
    ]

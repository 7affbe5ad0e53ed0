import pytest

from trainers.data.split_names import measured_on, split_named, splits_in


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "Train", "TRAINING")),
        *((name, "val") for name in ("val", "valid", "Validation")),
        *((name, "test") for name in ("test", "Testing")),
        *((name, None) for name in ("train2", "trains", "evaluation", "attest", "", "cat")),
    ],
)
def test_a_whole_name(name: str, split: str | None) -> None:
    assert split_named(name) == split


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("train-00000-of-00001", ["train"]),
        ("trainset", ["train"]),
        ("seg_test", ["test"]),
        ("ValidSet", ["val"]),
        ("my.val.data", ["val"]),
        ("train_test", ["train", "test"]),
        ("values", []),
        ("latest", []),
        ("constrained", []),
        ("oval", []),
    ],
)
def test_a_word_in_a_name(name: str, splits: list[str]) -> None:
    assert splits_in(name) == splits


def test_test_goes_before_val() -> None:
    assert measured_on(["train", "val", "test", None]) == "test"
    assert measured_on(["train", "val"]) == "val"
    assert measured_on(["train", None]) is None

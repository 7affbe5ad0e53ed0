import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.class_order import in_class_order

NAMES = st.lists(st.one_of(st.text(max_size=4), st.integers(-30, 30).map(str), st.from_regex(r"c[0-9]{1,3}x?")))


@pytest.mark.parametrize(
    "ordered",
    [
        ["0", "1", "2", "9", "10", "11"],
        ["01", "2", "03", "10"],
        ["-2", "-1", "0", "1", "10"],
        ["class1", "class2", "class10"],
        ["0_cat", "1_dog", "10_owl"],
        ["0.5", "1.0", "10.0"],
        ["fold-2b", "fold-12a"],
        ["01", "1", "2"],
        # As text, since people would not count these.
        ["airplane", "automobile", "bird"],
        ["10 cm", "cat", "owl", "unknown 9"],
        ["A10", "B2"],
        ["707", "A300"],
        ["C-130", "C-47", "Cessna"],
        ["n01440764", "n02102040", "n03000684"],
        ["١٠", "٢"],  # other digits than those of ASCII are text
    ],
)
def test_classes_are_ordered_as_people_count(ordered: list[str]) -> None:
    for seed in range(4):
        assert in_class_order(random.Random(seed).sample(ordered, len(ordered))) == ordered


@given(NAMES)
def test_the_order_is_one_of_all_names_and_does_not_depend_on_theirs(names: list[str]) -> None:
    ordered = in_class_order(names)
    assert sorted(ordered) == sorted(names)
    assert in_class_order(reversed(names)) == ordered
    assert in_class_order(ordered) == ordered


@given(st.sets(st.integers(0, 10**6), min_size=1))
def test_numbers_with_leading_zeros_keep_the_order_of_text(numbers: set[int]) -> None:
    names = [f"{number:07d}" for number in numbers]
    assert in_class_order(names) == sorted(names)


def test_a_number_may_be_longer_than_python_reads() -> None:
    long = "9" * 5000
    assert in_class_order([long, "10", "9"]) == ["9", "10", long]

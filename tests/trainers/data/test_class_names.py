import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.class_names import check_unambiguous, class_label, class_number, numbers_among
from trainers.errors import ConfigError
from trainers.text import composed

PETS = ("cat", "dog", "owl")
FOLDERS = tuple(map(str, range(1, 11)))


@given(st.lists(st.text(min_size=1, max_size=6).map(composed), min_size=2, unique=True))
def test_a_name_and_a_number_stand_for_the_same_class(names: list[str]) -> None:
    for number, name in enumerate(names):
        assert class_number("target", number, names) == number
        assert class_number("target", name, names) == number


def test_a_number_is_a_place_and_a_text_a_name() -> None:
    assert class_number("target", 3, FOLDERS) == 3
    assert class_number("target", "3", FOLDERS) == 2


def test_an_accent_may_be_a_character_of_its_own() -> None:
    """Names of classes have it as one, and a text that comes from macOS may not."""
    assert class_number("target", "caf\u00e9", ("bar", "caf\u00e9")) == 1
    assert class_number("target", "cafe\u0301", ("bar", "caf\u00e9")) == 1


def test_a_name_of_no_class_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        class_number("source", "dgo", PETS)
    assert str(caught.value) == (
        "source must be a class, but none is called 'dgo'; there are cat, dog, owl. Did you mean dog?"
    )
    with pytest.raises(ConfigError, match=re.escape(", 19, ... (100 classes).")):
        class_number("target", "x", [str(number) for number in range(100)])
    with pytest.raises(ConfigError, match=r"target must be a class from 0 to 2, but got 3\."):
        class_number("target", 3, PETS)


def test_a_number_that_is_the_name_of_another_class_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        check_unambiguous("target", 3, FOLDERS)
    assert str(caught.value) == (
        "target: 3 may be the class called 3, or class number 3, from 0, which is called 4; write the name in quotes: "
        '"3" or "4" (on the command line: --set \'scenarios.0.target="3"\').'
    )
    with pytest.raises(ConfigError) as caught:
        check_unambiguous("target", 7, ("3", "7"))
    assert str(caught.value) == (
        'target: 7 may be the class called 7, but there is no class of that number; write the name in quotes: "7" (on '
        "the command line: --set 'scenarios.0.target=\"7\"')."
    )
    with pytest.raises(ConfigError, match='"01" or "02"'):
        check_unambiguous("target", 1, ("01", "02"))


@pytest.mark.parametrize(
    ("number", "names"),
    [(0, FOLDERS), (2, tuple("0123")), (1, PETS), (7, PETS), (2, ("00", "01", "02")), (1, ("x", "y1"))],
)
def test_other_numbers_are_places(number: int, names: tuple[str, ...]) -> None:
    check_unambiguous("target", number, names)


def test_a_class_is_shown_by_number_and_name() -> None:
    assert [class_label(n, PETS) for n in (0, 2, 3)] == ["0 (cat)", "2 (owl)", "3"]
    assert class_label(2, tuple("0123")) == "2"
    assert class_label(2, FOLDERS) == "2 (3)"


def test_numbers_among_names_are_whole_and_each_of_them_once() -> None:
    assert numbers_among(("cat", "10", "03", "-1", "3", "2.5", "9" * 5000)) == [-1, 3, 10, int(Decimal("9" * 5000))]
    assert numbers_among(("cat", "dog")) == []

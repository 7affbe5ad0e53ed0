from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.errors import ConfigError
from trainers.params import Parameters, changed, param


@dataclass(frozen=True)
class Oven(Parameters):
    trays: int = param(3, ge=1, le=9)
    heat: float = param(0.5, gt=0, lt=1, doc="share of full power")
    fan: bool = param(True)
    mode: str = param("bake", choices=("bake", "grill"))
    timer: int | None = param(None, ge=4)
    note: str | None = param(None)
    steps: tuple[float, ...] = param((0.25, 0.5), ge=0, le=1)


@dataclass(frozen=True)
class BigOven(Oven):
    doors: int = param(2, ge=1)


@dataclass(frozen=True)
class Named(Parameters):
    name: str = param()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("trays", 0, "trays must be a whole number at least 1 and at most 9, but got 0."),
        ("trays", 10, "trays must be a whole number at least 1 and at most 9, but got 10."),
        (
            "trays",
            10**30,
            "trays must be a whole number at least 1 and at most 9, but got 1000000000000000000000000000000.",
        ),
        ("timer", 2**63, "timer must be at most 9223372036854775807, but got 9223372036854775808."),
        ("trays", 2.0, "trays must be a whole number at least 1 and at most 9, but got 2.0."),
        ("trays", True, "trays must be a whole number at least 1 and at most 9, but got True."),
        ("trays", "3", "trays must be a whole number at least 1 and at most 9, but got '3'."),
        ("trays", None, "trays must be a whole number at least 1 and at most 9, but got None."),
        ("heat", 0, "heat must be a number above 0 and below 1, but got 0."),
        ("heat", 1.0, "heat must be a number above 0 and below 1, but got 1.0."),
        ("heat", True, "heat must be a number above 0 and below 1, but got True."),
        ("heat", float("nan"), "heat must be a number above 0 and below 1, but got nan."),
        ("heat", None, "heat must be a number above 0 and below 1, but got None."),
        ("fan", 1, "fan must be true or false, but got 1."),
        ("fan", None, "fan must be true or false, but got None."),
        ("mode", "fry", "mode must be one of bake, grill, but got 'fry'."),
        ("mode", 1, "mode must be one of bake, grill, but got 1."),
        ("timer", 3, "timer must be a whole number at least 4 (or null), but got 3."),
        ("timer", False, "timer must be a whole number at least 4 (or null), but got False."),
        ("note", 5, "note must be text (or null), but got 5."),
    ],
)
def test_the_message_names_the_parameter_what_is_allowed_and_what_was_got(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Oven(**{name: value})
    assert str(caught.value) == message
    with pytest.raises(ConfigError):
        Oven.check(name, value)


@pytest.mark.parametrize(
    "steps", [0.5, None, "0.5", [0.5, 1.5], [0.5, None], [0.5, True], [float("nan")], ["x"], [[0.5]]]
)
def test_a_list_is_checked_item_by_item(steps: Any) -> None:
    with pytest.raises(ConfigError, match=r"steps must be .* at least 0 and at most 1, but got"):
        Oven(steps=steps)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), pytest.param(10**400, id="1e400")])
def test_a_number_without_bounds_is_finite_still(value: float) -> None:
    @dataclass(frozen=True)
    class Free(Parameters):
        x: float = param(0.0)

    with pytest.raises(ConfigError, match="x must be a number, but got"):
        Free(x=value)


def test_bounds_that_are_included() -> None:
    assert (Oven(trays=1).trays, Oven(trays=9).trays, Oven(timer=4).timer) == (1, 9, 4)
    assert Oven(steps=(0, 1)).steps == (0.0, 1.0)


def test_a_whole_number_given_for_a_float_becomes_one() -> None:
    @dataclass(frozen=True)
    class Free(Parameters):
        x: float = param(0.0)
        y: float | None = param(None)

    made = Free(x=2, y=3)
    assert (made.x, type(made.x), made.y, type(made.y)) == (2.0, float, 3.0, float)


@pytest.mark.parametrize("given", [[0, 0.5], (0, 0.5)])
def test_a_list_becomes_a_tuple_of_the_right_type(given: Any) -> None:
    steps = Oven(steps=given).steps
    assert isinstance(steps, tuple)
    assert [(step, type(step)) for step in steps] == [(0.0, float), (0.5, float)]
    assert Oven(steps=[]).steps == ()


def test_null_where_it_is_allowed() -> None:
    assert Oven(timer=None, note=None) == Oven()
    assert Oven(timer=4, note="x").note == "x"


def test_check_returns_the_value_as_the_field_holds_it() -> None:
    assert Oven.check("steps", [1]) == (1.0,)
    assert Oven.check("timer", None) is None


def test_an_unknown_parameter() -> None:
    with pytest.raises(ConfigError, match="door is no parameter here; known are trays, heat, fan, mode, timer"):
        Oven.check("door", 1)


def test_a_subclass_has_the_fields_of_its_base_first() -> None:
    assert BigOven.keys() == ("trays", "heat", "fan", "mode", "timer", "note", "steps", "doors")
    with pytest.raises(ConfigError, match="trays must be"):
        BigOven(trays=0)
    with pytest.raises(ConfigError, match="doors must be"):
        BigOven(doors=0)


def test_a_parameter_without_default_must_be_given() -> None:
    with pytest.raises(TypeError, match="name"):
        Named()  # type: ignore[call-arg]
    assert Named(name="x").name == "x"


# What enters seeds, keys and digests


@dataclass(frozen=True)
class Kitchen:
    """Plain, with parameters inside."""

    place: str
    oven: Oven = Oven()
    others: tuple[Oven, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)


def test_only_what_differs_from_its_default_counts() -> None:
    assert Oven().changed() == {}
    assert Oven(trays=3, heat=0.5, steps=[0.25, 0.5]).changed() == {}  # type: ignore[arg-type]
    assert Oven(trays=4, timer=5, steps=()).changed() == {"trays": 4, "timer": 5, "steps": ()}
    assert Named("x").changed() == {"name": "x"}
    assert BigOven(trays=4).changed() == Oven(trays=4).changed()
    assert BigOven(doors=3).changed() == {"doors": 3}


def test_the_defaults_are_those_of_the_class_that_is_named() -> None:
    @dataclass(frozen=True)
    class HotOven(Oven):
        heat: float = param(0.9)

    hot = HotOven()
    assert hot.changed() == {}
    assert changed(Oven, {key: getattr(hot, key) for key in Oven.keys()}) == {"heat": 0.9}


def test_parameters_inside_are_reduced_too() -> None:
    assert changed(Kitchen, vars(Kitchen("here"))) == {"place": "here"}
    kitchen = Kitchen("here", Oven(trays=4), (Oven(), BigOven(doors=3)), {"a": 1})
    expected = {"place": "here", "oven": {"trays": 4}, "others": ({}, {"doors": 3}), "notes": {"a": 1}}
    assert changed(Kitchen, vars(kitchen)) == expected


@given(st.one_of(st.integers(-5, 15), st.floats(), st.booleans(), st.none(), st.text(max_size=2)))
@settings(max_examples=50)
def test_what_is_accepted_lies_in_range_and_has_the_type(value: Any) -> None:
    legal = type(value) is int and 1 <= value <= 9
    try:
        assert Oven(trays=value).trays == value
    except ConfigError:
        assert not legal
    else:
        assert legal

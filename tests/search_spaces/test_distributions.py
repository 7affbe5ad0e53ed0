from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.distributions import Searched, SpaceError, order_by_condition, parse, suggest


@pytest.mark.parametrize("value", [0.2, 3, "attention", True, None, [0.25, 0.5]])
def test_a_plain_value_stays_as_it_is(value: Any) -> None:
    assert parse(value) is value


@pytest.mark.parametrize(
    ("raw", "searched", "distribution"),
    [
        ({"float": [0, 0.5]}, Searched("float", (0.0, 0.5)), FloatDistribution(0.0, 0.5)),
        (
            {"float": [1e-3, 0.1], "log": True},
            Searched("float", (1e-3, 0.1), log=True),
            FloatDistribution(1e-3, 0.1, log=True),
        ),
        (
            {"float": [0, 1], "step": 0.25},
            Searched("float", (0.0, 1.0), step=0.25),
            FloatDistribution(0.0, 1.0, step=0.25),
        ),
        ({"int": [1, 10]}, Searched("int", (1, 10)), IntDistribution(1, 10)),
        ({"int": [1, 100], "log": True}, Searched("int", (1, 100), log=True), IntDistribution(1, 100, log=True)),
        ({"int": [20, 200], "step": 20}, Searched("int", (20, 200), step=20), IntDistribution(20, 200, step=20)),
        (
            {"categorical": ["a", None, 1, True]},
            Searched("categorical", ("a", None, 1, True)),
            CategoricalDistribution(("a", None, 1, True)),
        ),
    ],
)
def test_the_grammar(raw: dict[str, Any], searched: Searched, distribution: Any) -> None:
    assert parse(raw) == searched
    assert parse(raw).distribution() == distribution


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "is a mapping and must name one of float, int, categorical, but names none"),
        ({"uniform": [0, 1]}, "must name one of float, int, categorical, but names uniform"),
        ({"float": [0, 1], "int": [0, 1]}, "must name one of float, int, categorical, but names float, int"),
        ({1: 2}, "must name one of float, int, categorical, but names 1"),
        ({"float": [0, 1], "base": 2}, "has base, but the only keys beside float are log, step, when"),
        ({"float": [0, 1], "base": 2, 3: 4}, "has 3, base, but the only keys beside float"),
        ({"categorical": [1, 2], "log": True}, "has log, but the only keys beside categorical are when"),
        ({"float": 0.5}, r"float must be \[low, high\], two numbers, but got 0.5"),
        ({"float": [0.5]}, r"float must be \[low, high\]"),
        ({"float": [0, 1, 2]}, r"float must be \[low, high\]"),
        ({"float": ["0", "1"]}, r"float must be \[low, high\]"),
        ({"float": [False, True]}, r"float must be \[low, high\]"),
        ({"int": [0, 1.5]}, r"int must be \[low, high\], two whole numbers, but got \[0, 1.5\]"),
        ({"int": [True, 3]}, "two whole numbers"),
        ({"float": [1, 0]}, r"low below high, but got \[1.0, 0.0\]"),
        ({"int": [2, 2]}, r"low below high, but got \[2, 2\]"),
        ({"float": [float("nan"), 1]}, "low below high"),
        ({"float": [0.1, 1], "log": "yes"}, "log must be true or false, but got 'yes'"),
        ({"float": [0, 1], "log": True}, "a log range must start above 0, but starts at 0.0"),
        ({"int": [0, 9], "log": True}, "a log range must start above 0, but starts at 0"),
        ({"float": [0.1, 1], "log": True, "step": 0.1}, "log and step cannot be combined"),
        ({"float": [0, 1], "step": 0}, "step must be a number above 0, but got 0"),
        ({"float": [0, 1], "step": "big"}, "step must be a number above 0, but got 'big'"),
        ({"float": [0, 1], "step": True}, "step must be a number above 0, but got True"),
        ({"int": [0, 9], "step": 1.5}, "step of an int must be a whole number, but got 1.5"),
        ({"categorical": []}, r"categorical must be a list of at least one value, but got \[\]"),
        ({"categorical": "abc"}, "categorical must be a list of at least one value, but got 'abc'"),
        ({"categorical": [[1], [2]]}, "categorical choices must be numbers, texts, true, false or null"),
        ({"categorical": [1, 2, 1]}, "categorical lists a choice twice"),
        ({"float": [0, 1], "when": "mixing"}, "when must map parameters to a value"),
    ],
)
def test_what_is_written_wrongly_is_said_in_one_sentence(raw: dict[Any, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "grid"),
    [
        ({"categorical": ["a", "b"]}, ("a", "b")),
        ({"int": [1, 4]}, (1, 2, 3, 4)),
        ({"int": [20, 90], "step": 20}, (20, 40, 60, 80)),
        ({"float": [0.1, 0.5], "step": 0.1}, (0.1, 0.2, 0.3, 0.4, 0.5)),
        ({"float": [0, 1], "step": 0.3}, (0.0, 0.3, 0.6, 0.9)),
        ({"float": [0, 1], "step": 2}, (0.0,)),
        ({"float": [0, 1]}, None),
        ({"float": [0.1, 1], "log": True}, None),
        ({"int": [1, 100], "log": True}, None),
        ({"int": [0, 999]}, tuple(range(1000))),
        ({"int": [0, 1000]}, None),
        ({"int": [0, 10**30]}, None),
        ({"int": [0, 10**30], "step": 10**30}, (0, 10**30)),
        ({"float": [0, 1], "step": 1e-300}, None),
    ],
)
def test_grid_values(raw: dict[str, Any], grid: tuple[Any, ...] | None) -> None:
    assert parse(raw).grid() == grid


@settings(deadline=None, max_examples=60)
@given(low=st.integers(-50, 50), count=st.integers(1, 30), step=st.sampled_from([0.1, 0.05, 0.3, 0.25, 1.0]))
def test_a_grid_holds_both_ends_and_nothing_beyond(low: int, count: int, step: float) -> None:
    start = low / 10
    grid = Searched("float", (start, start + count * step), step=step).grid()
    assert grid is not None
    assert len(grid) == count + 1
    assert grid[0] == pytest.approx(start)
    assert grid[-1] == pytest.approx(start + count * step)


def test_conditions() -> None:
    one = parse({"float": [0, 1], "when": {"mixing": "attention"}})
    several = parse({"int": [1, 3], "when": {"mixing": ["attention", "cutmix"], "split": "gmm"}})
    assert one.applies({"mixing": "attention"})
    assert not one.applies({"mixing": "none"})
    assert not one.applies({})
    assert several.applies({"mixing": "cutmix", "split": "gmm"})
    assert not several.applies({"mixing": "cutmix", "split": "threshold"})
    assert parse({"categorical": [1, 2], "when": {"x": None}}).applies({"x": None})


def test_each_parameter_comes_after_those_it_asks_for() -> None:
    block = {
        "c": parse({"float": [0, 1], "when": {"b": 2}}),
        "b": parse({"int": [1, 3], "when": {"a": "x"}}),
        "plain": 3,
        "a": parse({"categorical": ["x", "y"]}),
    }
    order = order_by_condition(block)
    assert sorted(order) == sorted(block)
    assert order.index("a") < order.index("b") < order.index("c")
    assert order_by_condition({"b": parse({"int": [1, 3], "when": {"a": "x"}}), "a": "x"}) == ["a", "b"]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"a": {"gone": 1}}, "a: when asks for gone, which this block does not set"),
        ({"a": {"b": 1}, "b": {"a": 1}}, "the conditions of a, b depend on each other in a circle"),
        ({"a": {"a": 1}}, "the conditions of a depend on each other in a circle"),
        ({"a": {"b": 1}, "b": {"a": 1}, "c": {"gone": 1}}, "c: when asks for gone|in a circle"),
    ],
)
def test_conditions_that_cannot_be_met(when: dict[str, dict[str, Any]], message: str) -> None:
    block = {name: parse({"int": [0, 3], "when": asked}) for name, asked in when.items()}
    with pytest.raises(SpaceError, match=message):
        order_by_condition(block)


def test_optuna_draws_what_was_written() -> None:
    space = {
        "mixing": parse({"categorical": ["none", "attention"]}),
        "mask": parse({"float": [0.1, 0.6], "when": {"mixing": "attention"}}),
        "steps": parse({"int": [40, 80], "step": 10}),
        "lr": parse({"float": [0.001, 0.1], "log": True}),
        "rate": parse({"float": [0, 0.5], "step": 0.25}),
        "depth": parse({"int": [1, 64], "log": True}),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        drawn: dict[str, Any] = {}
        for name in order_by_condition(space):
            if space[name].applies(drawn):
                drawn[name] = suggest(trial, f"vab.{name}", space[name])
        study.tell(trial, 0.0)
        assert ("mask" in drawn) == (drawn["mixing"] == "attention")
        assert drawn["steps"] in range(40, 81, 10)
        assert drawn["rate"] in (0.0, 0.25, 0.5)
        assert 0.001 <= drawn["lr"] <= 0.1
        assert isinstance(drawn["depth"], int)
        frozen = study.trials[-1]
        assert frozen.params == {f"vab.{name}": value for name, value in drawn.items()}
        assert frozen.distributions == {f"vab.{name}": space[name].distribution() for name in drawn}
    assert {"vab.mask" in trial.params for trial in study.trials} == {True, False}

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainers.errors import ConfigError
from trainers.optim import SgdParams


def test_the_steps_of_the_authors_run() -> None:
    params = SgdParams()
    rates = {epoch: params.lr_at(epoch, 200) for epoch in (0, 49, 50, 99, 100, 149, 150, 199)}
    by_hand = {0: 0.1, 49: 0.1, 50: 0.01, 99: 0.01, 100: 0.001, 149: 0.001, 150: 0.0001, 199: 0.0001}
    assert rates == pytest.approx(by_hand)


def test_drops_stand_at_shares_of_any_length() -> None:
    params = SgdParams(lr=8.0, decay=0.5, milestones=(0.9, 0.5))  # in any order
    assert [params.lr_at(e, 10) for e in range(10)] == pytest.approx([8.0] * 5 + [4.0] * 4 + [2.0])


def test_no_milestones_no_drops() -> None:
    assert {SgdParams(milestones=()).lr_at(e, 10) for e in range(10)} == {0.1}


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 200])
@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_the_first_epoch_has_the_rate_that_was_set(schedule: str, epochs: int) -> None:
    assert SgdParams(schedule=schedule).lr_at(0, epochs) == 0.1


def test_cosine_by_formula() -> None:
    params = SgdParams(lr=0.2, schedule="cosine")
    assert params.lr_at(5, 10) == pytest.approx(0.1)
    by_hand = [0.2 * 0.5 * (1 + math.cos(math.pi * e / 10)) for e in range(10)]
    assert [params.lr_at(e, 10) for e in range(10)] == pytest.approx(by_hand)


@given(st.integers(1, 300), st.sampled_from(["step", "cosine"]))
@settings(max_examples=30)
def test_the_rate_falls_and_stays_above_0(epochs: int, schedule: str) -> None:
    rates = [SgdParams(schedule=schedule).lr_at(e, epochs) for e in range(epochs)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0
    assert max(rates) <= 0.1


def test_the_optimizer_has_the_parameters_and_set_lr_reaches_every_group() -> None:
    params = SgdParams(lr=0.4, momentum=0.8, weight_decay=0.01)
    optimizer = params.optimizer(nn.Linear(2, 2))
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.4, 0.8, 0.01)
    params.set_lr(optimizer, 5, 10)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.004, 0.004])


def test_a_step_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    optimizer = SgdParams(lr=0.1, momentum=0.5, weight_decay=0.5).optimizer(network)
    weight, momentum = 2.0, 0.0
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.ones(1, 1)).sum().backward()  # gradient 1
        optimizer.step()
        momentum = 0.5 * momentum + 1 + 0.5 * weight
        weight -= 0.1 * momentum
    assert float(network.weight.detach()) == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0}, {"momentum": 1}, {"weight_decay": -1}, {"batch_size": 1}, {"milestones": [1]}, {"decay": 0}]
)
def test_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SgdParams(**wrong)  # type: ignore[arg-type]

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.errors import ConfigError
from trainers.models import ModelConfig, Network, build_model
from trainers.optim import OptimizerParams
from trainers.optim.rates import warmup


def network() -> Network:
    return build_model(ModelConfig(width=2), (3, 32, 32), 4, 0)


def test_the_steps_of_the_authors_run() -> None:
    params = OptimizerParams()
    rates = {epoch: params.lr_at(epoch, 200) for epoch in (0, 49, 50, 99, 100, 149, 150, 199)}
    by_hand = {0: 0.1, 49: 0.1, 50: 0.01, 99: 0.01, 100: 0.001, 149: 0.001, 150: 0.0001, 199: 0.0001}
    assert rates == pytest.approx(by_hand)


def test_drops_stand_at_shares_of_any_length() -> None:
    params = OptimizerParams(lr=8.0, decay=0.5, milestones=(0.9, 0.5))  # in any order
    assert [params.lr_at(e, 10) for e in range(10)] == pytest.approx([8.0] * 5 + [4.0] * 4 + [2.0])


def test_no_milestones_no_drops() -> None:
    assert {OptimizerParams(milestones=()).lr_at(e, 10) for e in range(10)} == {0.1}


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 200])
@pytest.mark.parametrize("schedule", ["step", "cosine", "cosine_steps"])
def test_the_first_epoch_has_the_rate_that_was_set(schedule: str, epochs: int) -> None:
    assert OptimizerParams(schedule=schedule).lr_at(0, epochs) == 0.1


def test_cosine_by_formula() -> None:
    params = OptimizerParams(lr=0.2, schedule="cosine")
    assert params.lr_at(5, 10) == pytest.approx(0.1)
    by_hand = [0.2 * 0.5 * (1 + math.cos(math.pi * e / 10)) for e in range(10)]
    assert [params.lr_at(e, 10) for e in range(10)] == pytest.approx(by_hand)


@given(st.integers(1, 300), st.sampled_from(["step", "cosine", "cosine_steps"]))
@settings(max_examples=30)
def test_the_rate_falls_and_stays_above_0(epochs: int, schedule: str) -> None:
    rates = [OptimizerParams(schedule=schedule).lr_at(e, epochs) for e in range(epochs)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0
    assert max(rates) <= 0.1


def test_the_optimizer_has_the_parameters_in_every_group() -> None:
    params = OptimizerParams(lr=0.4, momentum=0.8, weight_decay=0.01)
    optimizer = params.new_optimizer(network(), params.lr, 0.5)
    assert len(optimizer.param_groups) == 2
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.4, 0.8, 0.01)


def test_adamw() -> None:
    params = OptimizerParams(optimizer="adamw", weight_decay=0.03)
    optimizer = params.new_optimizer(network(), 0.002)
    assert type(optimizer) is torch.optim.AdamW
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.002, 0.03, (0.9, 0.999))


@pytest.mark.parametrize(
    ("changes", "moments"), [({}, 1), ({"momentum": 0.0}, 0), ({"optimizer": "adamw"}, 2),
                             ({"optimizer": "adamw", "momentum": 0.0}, 2)],
)  # fmt: skip
def test_moments_are_what_the_optimizer_keeps_for_each_weight(changes: dict[str, Any], moments: int) -> None:
    params, trained = OptimizerParams(**changes), network()
    optimizer = params.new_optimizer(trained, 0.1)
    trained(torch.ones(2, 3, 8, 8)).logits.sum().backward()
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if value is not None]
    assert sum(value.numel() for value in kept if value.ndim) == moments * sum(w.numel() for w in trained.parameters())
    assert params.moments == moments


def test_rates_of_an_epoch_by_step() -> None:
    by_epoch = OptimizerParams(lr=0.2, schedule="cosine").rates(3, 4, 5)
    assert [by_epoch(step) for step in range(5)] == [OptimizerParams(lr=0.2, schedule="cosine").lr_at(3, 4)] * 5
    params = OptimizerParams(lr=0.2, schedule="cosine_steps")
    found = [rate for epoch in range(4) for rate in map(params.rates(epoch, 4, 5), range(5))]
    assert found == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 20)) for step in range(20)])


def test_a_warm_up_rises_to_1() -> None:
    assert [warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warmup(0, 0) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0},
        {"momentum": 1},
        {"weight_decay": -1},
        {"batch_size": 1},
        {"milestones": [1]},
        {"decay": 0},
        {"lr_warmup_steps": -1},
        {"backbone_lr_factor": 0},
        {"clip_norm": 0},
        {"label_smoothing": 1},
        {"ema_decay": 1},
        {"optimizer": "adam"},
    ],
)
def test_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OptimizerParams(**wrong)  # type: ignore[arg-type]

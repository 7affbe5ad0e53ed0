"""Steps by hand: rates, clipping, frozen parts, the average."""

import copy

import pytest
import torch
from torch import Tensor, nn

from trainers.models import ModelConfig, Network, build_model
from trainers.optim import Descent, OptimizerParams
from trainers.optim.descent import Average


def network(seed: int = 0) -> Network:
    return build_model(ModelConfig(width=2), (3, 32, 32), 4, seed)


def weights(of: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in of.parameters()])


def stepped(descent: Descent, gradient: float = 1.0) -> None:
    """A step with the same gradient for every weight that is trained."""
    for weight in descent.network.parameters():
        weight.grad = torch.full_like(weight, gradient) if weight.requires_grad else None
    descent.step()


def plain(trained: Network, lr: float = 0.1, **how: object) -> Descent:
    return Descent(trained, torch.optim.SGD(trained.parameters(), lr), lr, **how)  # type: ignore[arg-type]


def test_sgd_with_momentum_and_decay_by_hand() -> None:
    trained = network()
    params = OptimizerParams(lr=0.1, momentum=0.5, weight_decay=0.5)
    descent = Descent(trained, params.new_optimizer(trained, params.lr), params.lr)
    by_hand, momentum = weights(trained).double(), torch.zeros(())
    for _ in range(3):
        stepped(descent)
        momentum = 0.5 * momentum + 1 + 0.5 * by_hand
        by_hand = by_hand - 0.1 * momentum
    assert weights(trained).double().allclose(by_hand, atol=1e-6)


def test_adamw_by_hand() -> None:
    """The first step is the rate, whatever the gradient, beside the decay of the weight itself."""
    trained = network()
    params = OptimizerParams(optimizer="adamw", lr=0.01, weight_decay=0.2)
    before = weights(trained)
    stepped(Descent(trained, params.new_optimizer(trained, params.lr), params.lr), gradient=7.0)
    assert weights(trained).allclose(before * (1 - 0.01 * 0.2) - 0.01, atol=1e-6)


def test_rates_are_counted_from_where_they_were_set_and_the_warm_up_from_the_first_step() -> None:
    trained = network()
    descent = plain(trained, warmup_steps=4)
    rates = []
    for follow in (lambda step: 8.0 - step, lambda step: 2.0 + step):
        descent.follow(follow)
        for _ in range(3):
            before = weights(trained)
            stepped(descent)
            rates.append(float((before - weights(trained)).mean()))
    assert rates == pytest.approx([8 / 4, 7 * 2 / 4, 6 * 3 / 4, 2, 3, 4], rel=1e-5)


def test_the_backbone_has_a_rate_of_its_own() -> None:
    trained = network()
    descent = Descent(trained, OptimizerParams(momentum=0, weight_decay=0).new_optimizer(trained, 1.0, 0.25), 1.0)
    descent.set_lr(0.5)
    before = copy.deepcopy(trained)
    stepped(descent)
    for role, part in trained.parts().items():
        moved = (weights(before.parts()[role]) - weights(part)).mean()
        assert float(moved) == pytest.approx(0.5 if role == "head" else 0.125, rel=1e-5)


@pytest.mark.parametrize(("clip_norm", "factor"), [(None, 1.0), (1e9, 1.0), (3.0, None)])
def test_clipping_scales_all_gradients_together(clip_norm: float | None, factor: float | None) -> None:
    trained = network()
    before = weights(trained)
    stepped(plain(trained, 1.0, clip_norm=clip_norm), gradient=2.0)
    moved = before - weights(trained)
    expected = 2.0 if factor else 3.0 / len(before) ** 0.5  # the norm of all of them is 3
    assert moved.allclose(torch.full_like(moved, expected), rtol=1e-4)


def test_parts_that_stay_still_are_in_eval_mode() -> None:
    trained = network()
    parts = trained.parts()
    descent = plain(trained, still=[parts["stem"]])
    descent.train()
    assert [any(m.training for m in part.modules()) for part in parts.values()] == [False, True, True, True, True]


def test_the_average_by_hand() -> None:
    trained, shadow = network(), network(1)
    descent = plain(trained, average=Average(trained, shadow, 0.3))
    expected = weights(trained)
    for number in range(1, 6):
        stepped(descent)
        decay = min(0.3, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * weights(trained)
    assert descent.result() is shadow
    assert weights(shadow).allclose(expected, atol=1e-6)
    assert not weights(shadow).allclose(weights(trained), atol=1e-3)
    assert not any(weight.requires_grad for weight in shadow.parameters())


def test_the_average_has_the_statistics_of_the_network() -> None:
    trained, shadow = network(), network(1)
    descent = plain(trained, average=Average(trained, shadow, 0.9))
    descent.train()
    trained(torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert all(one.equal(two) for one, two in zip(descent.result().buffers(), trained.buffers(), strict=True))


def test_a_decay_of_0_is_the_network_itself_and_none_has_no_average() -> None:
    trained, shadow = network(), network(1)
    descent = plain(trained, average=Average(trained, shadow, 0.0))
    stepped(descent)
    assert weights(descent.result()).equal(weights(trained))
    assert plain(trained).result() is trained


def test_the_average_begins_anew_from_other_weights() -> None:
    trained, shadow = network(), network(1)
    descent = plain(trained, average=Average(trained, shadow, 0.9))
    stepped(descent)
    trained.load_state_dict(network(2).state_dict())
    descent.restart_average()
    assert weights(descent.result()).equal(weights(network(2)))


def test_a_state_has_the_steps_of_the_warm_up() -> None:
    one, two = network(), network()
    first, second = (plain(trained, warmup_steps=10) for trained in (one, two))
    for _ in range(4):
        stepped(first)
    two.load_state_dict(one.state_dict())
    second.load_state_dict(first.state_dict())
    for descent in (first, second):
        stepped(descent)
    assert weights(one).equal(weights(two))

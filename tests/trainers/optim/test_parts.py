"""Parts that are frozen, and groups of weights."""

import pytest
import torch

from trainers.errors import ConfigError
from trainers.models import ModelConfig, build_model
from trainers.optim import frozen_parts
from trainers.optim.parts import freeze, weight_groups

SHAPE = (3, 32, 32)


@pytest.mark.parametrize(
    ("frozen", "parts"),
    [
        ("none", []),
        ("stem", ["stem"]),
        ("early", ["stem", "stage1", "stage2"]),
        ("body", ["stem", "stage1", "stage2", "stage3"]),
        ("head", ["head"]),
        ("stage2+head", ["stage2", "head"]),
    ],
)
def test_the_names_of_frozen_parts(frozen: str, parts: list[str]) -> None:
    assert frozen_parts("frozen", frozen, build_model(ModelConfig("resnet18", width=2), (3, 32, 32), 4, 0)) == parts


@pytest.mark.parametrize("frozen", ["stage4", "stem+layer1", ""])
def test_a_part_that_the_network_does_not_have_is_one_sentence(frozen: str) -> None:
    with pytest.raises(ConfigError, match=r"frozen must be one of .*\(stem, stage1, stage2, stage3, head\), but got"):
        frozen_parts("frozen", frozen, build_model(ModelConfig(width=2), (3, 32, 32), 4, 0))


def test_something_must_be_left_to_train() -> None:
    with pytest.raises(ConfigError, match="frozen_parts must leave a part to train"):
        frozen_parts(
            "frozen_parts", "stem+stage1+stage2+stage3+head", build_model(ModelConfig(width=2), (3, 32, 32), 4, 0)
        )


def test_without_a_factor_there_is_one_group_in_the_order_of_the_network() -> None:
    network = build_model(ModelConfig(width=2), (3, 32, 32), 4, 0)
    (group,) = weight_groups(network, 1.0)
    assert group["factor"] == 1
    assert all(one is two for one, two in zip(group["params"], network.parameters(), strict=True))


def test_the_backbone_is_everything_but_the_head_and_frozen_weights_are_in_no_group() -> None:
    network = build_model(ModelConfig(width=2), (3, 32, 32), 4, 0)
    (still,) = freeze(network, ["stage1"])
    backbone, head = weight_groups(network, 0.1)
    assert (backbone["factor"], head["factor"]) == (0.1, 1)
    assert {id(weight) for weight in head["params"]} == {id(weight) for weight in network.head.parameters()}
    known = {id(weight) for group in (backbone, head) for weight in group["params"]}
    assert known == {id(weight) for weight in network.parameters()} - {id(weight) for weight in still.parameters()}
    freeze(network, ["head"])
    assert [group["factor"] for group in weight_groups(network, 0.1)] == [0.1]
    assert torch.optim.SGD(weight_groups(network, 0.1), 0.1).param_groups[0]["factor"] == 0.1


def test_weights_of_a_transformer_that_lie_beside_its_layers_are_frozen_with_the_stem() -> None:
    network = build_model(ModelConfig("timm:vit_tiny_patch16_224"), (3, 32, 32), 4, 0)
    freeze(network, frozen_parts("frozen", "early", network))
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert (
        not {"inner.pos_embed", "inner.cls_token", "inner.patch_embed.proj.weight", "inner.blocks.5.norm1.bias"}
        & trained
    )
    assert {"inner.blocks.6.norm1.bias", "inner.norm.weight", "inner.head.weight"} <= trained
    backbone, head = weight_groups(network, 0.1)
    assert len(head["params"]) == 2
    assert len(backbone["params"]) == len(trained) - 2

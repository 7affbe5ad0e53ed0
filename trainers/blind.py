"""Training with a chosen setting on untrusted data: the attacker and the poisoned images are unknown."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from trainers.card.need import MemoryNeed, memory_need
from trainers.card.room import within
from trainers.compute import Compute
from trainers.data.augmentation import Augmentation
from trainers.data.image_set import ImageSet
from trainers.data.stored import Images
from trainers.defenses import DEFENSES
from trainers.defenses.base import Report, TrainingTask
from trainers.defenses.footprint import DataSize
from trainers.errors import TrialError
from trainers.models import ModelConfig, Network, build_model
from trainers.storage.saved_model import SavedModel
from trainers.storage.state_store import StateStore


@dataclass(frozen=True)
class Setting:
    """A defense with parameters, network and augmentation, as a defender deploys it.

    Args:
        defense: name of the defense.
        params: parameters of the defense; those left out take their defaults.
        model: the network.
        augmentation: augmentation of training images.
    """

    defense: str
    params: dict[str, Any]
    model: ModelConfig
    augmentation: Augmentation


@dataclass(frozen=True)
class Trained:
    """Result of training on untrusted data.

    Args:
        model: the trained classifier.
        suspicion: float (N,), higher is more suspicious; null if the defense gives no scores.
        credible: bool (N,), the samples that the defense treats as clean; null if the defense marks none.
        losses: mean training loss of each epoch; null for an epoch that trained nothing.
    """

    model: SavedModel
    suspicion: Tensor | None
    credible: Tensor | None
    losses: list[float | None]


def train_blind(
    setting: Setting,
    data: ImageSet,
    compute: Compute,
    seed: int,
    store: StateStore,
    progress: Callable[[str, int, int, float | None], None],
    unlabelled: Images | None = None,
) -> Trained:
    """Train on all of ``data``; continues from the last state in ``store`` if there is one.

    Args:
        setting: defense, parameters, network and augmentation.
        data: untrusted images and labels.
        compute: where to compute.
        seed: seeds every random draw.
        store: where states of this training are kept.
        progress: called after each epoch with stage, epochs done, epochs in all, and loss.
        unlabelled: uint8 (M, C, H, W), for defenses that need images without labels.

    Raises:
        ConfigError: a parameter is not allowed.
        TrialError: a loss or a weight is not finite, the defense left no model, or the GPU's memory does not suffice.
    """
    kind = DEFENSES[setting.defense]
    params = kind.Params(**setting.params)
    wanted = kind.unlabelled(params)
    there = 0 if unlabelled is None or wanted is None else len(unlabelled)
    count = there if wanted is None or wanted.count is None else min(wanted.count, there)
    size = DataSize.of(data, unlabelled=count)

    def need() -> MemoryNeed:
        return memory_need(kind, params, setting.model, size, compute)

    with within(compute, 1.0, need):
        return _train(setting, data, compute, seed, store, progress, unlabelled)


def _train(
    setting: Setting,
    data: ImageSet,
    compute: Compute,
    seed: int,
    store: StateStore,
    progress: Callable[[str, int, int, float | None], None],
    unlabelled: Images | None,
) -> Trained:
    kind = DEFENSES[setting.defense]
    data = replace(data, names=None)  # file names must not influence the defense
    task = TrainingTask(data, setting.model, setting.augmentation, compute, seed, unlabelled)
    defense = kind(kind.Params(**setting.params), task)
    total = sum(stage.epochs for stage in kind.stages(defense.params))
    losses: list[float | None] = []
    report: Report | None = None
    saved = store.load(0)
    if saved is not None:
        defense.load(saved["defense"])
        losses = saved["losses"]
    for stage, report in defense.epochs():
        losses.append(report.loss)
        if store.due(defense.stage_ended) and len(losses) < total:
            store.save(0, {"defense": defense.state(), "losses": losses})
        progress(stage.name, len(losses), total, report.loss)
    if report is None or report.model is None:
        raise TrialError(f"{setting.defense} left no model.")
    if not all(tensor.isfinite().all() for tensor in report.model.state_dict().values()):
        raise TrialError("The network's weights are not finite.")
    model = _saved(report.model, setting.model, data, defense.normalise)
    suspicion, credible = (None if x is None else x.detach().cpu() for x in (report.suspicion, report.credible))
    return Trained(model, suspicion, credible, losses)


def _saved(network: Network, config: ModelConfig, data: ImageSet, normalise: Any) -> SavedModel:
    """Copy of the network on the CPU, without what torch.compile may have added."""
    copy = build_model(config.architecture, data.shape, data.num_classes, seed=0)
    copy.load_state_dict({name: tensor.cpu() for name, tensor in network.state_dict().items()})
    copy.eval()
    statistics = type(normalise)(normalise.mean.cpu(), normalise.std.cpu())
    return SavedModel(copy, config, statistics, data.shape, data.class_names)

"""Draws what each attack does to an image, with its cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from mlflow import MlflowClient
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sweeper.decoding import decoding_shown
from sweeper.preset.blocks import scenario_config
from sweeper.preset.fitting import fit_to_data
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import validate
from sweeper.report.plots import save_figure
from sweeper.run_folder.folder import RunFolder
from sweeper.tracking.store import (
    ExperimentDeleted,
    check_store,
    experiment_id,
    set_short_timeouts,
    tracking_uri,
    unusable,
)
from trainers.compute import Compute
from trainers.data import load_data
from trainers.data.class_names import class_label
from trainers.data.image_set import Splits
from trainers.errors import ConfigError
from trainers.measuring.attack_cost import AttackCost
from trainers.scenario import ScenarioConfig, build_scenario
from trainers.storage.object_store import Place

AMPLIFIED = 10
"""Factor by which differences are multiplied, so that they can be seen."""
EXPERIMENT = "gallery"


@dataclass(frozen=True)
class Example:
    """One attack on a training image and on a test image.

    Args:
        scenario: the attacker.
        clean, poisoned: uint8 (C, H, W), a training image before and after.
        test, triggered: uint8 (C, H, W), a test image without and with the trigger.
        cost: over the whole training set.
    """

    scenario: ScenarioConfig
    clean: Tensor
    poisoned: Tensor
    test: Tensor
    triggered: Tensor
    cost: AttackCost


def show_attacks(preset: dict[str, Any], where: str, out: Path, console: Console) -> str | None:
    """Poison a preset's data with each of its attacks, draw them, and log picture and costs to MLflow.

    Of a searched parameter the first value counts. Attacks that do not fit the data are left out, and said; the
    preset's defense plays no part.

    Args:
        preset: as read, with overrides.
        where: it was read.
        out: the PNG.
        console: for progress, and for what is left out.

    Returns:
        The tracking store's address; null if it does not have the picture, since the experiment was deleted there.

    Raises:
        ConfigError, PresetError: the preset, all of its attacks or the data is at fault, or the picture or store is.
    """
    if out.suffix != ".png":
        raise ConfigError(f"--out must end in .png, but got {out}.")
    spec = validate(preset, where)
    console.print("Loading data ...", highlight=False)
    with decoding_shown(console):
        splits = load_data(spec.images)
    for line in splits.findings.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    names = [block.values["name"] for block in spec.scenario_blocks]
    misfits = Misfits(names)
    spec = fit_to_data(spec, preset, splits.train, misfits).spec
    attackers = [
        scenario_config(b.kind, b.draw(lambda _, s: s.corners()[0]))
        for b in spec.scenario_blocks
        if misfits.fits(b.values["name"])
    ]
    for attacker in attackers:
        with misfits.of_scenario(attacker.name):
            attacker.build_attack(splits.train, seed=0).counts(splits.train.labels, attacker.poison_rate)
    attackers = [attacker for attacker in attackers if misfits.fits(attacker.name)]
    if not attackers:
        misfits.refuse()
    folder = out.resolve().parent
    uri = tracking_uri(folder)
    # Computed as in a trial, so that the images shown are those of a sweep of this preset.
    compute = spec.compute.open(min(spec.resources.gpu, float(torch.cuda.is_available())))
    seen: list[Example] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_store(uri)
        experiment = _experiment(uri, folder, console)
        for attacker in track(attackers, "Poisoning", console=console):
            with misfits.of_scenario(attacker.name):
                seen.append(example_of(attacker, splits, spec.seed, compute, RunFolder(out).attack_cache))
        if not seen:
            misfits.refuse()
        for part, reason in misfits.reasons.items():
            console.print(f"Left out, {part}: {reason}", markup=False, highlight=False, soft_wrap=True)
        draw_gallery(seen, f"Attacks on {spec.data.source}", splits.train.class_names, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}.") from error
    if experiment is None:
        return None
    track_gallery(uri, experiment, seen, splits.train.class_names, misfits, out, spec.data.source)
    return uri


def _experiment(uri: str, beside: Path, console: Console) -> str | None:
    """The id of the experiment of galleries; null if it was deleted, which is said.

    Raises:
        ConfigError: the store fails.
    """
    try:
        return experiment_id(MlflowClient(tracking_uri=uri), EXPERIMENT, beside)
    except ExperimentDeleted as error:
        console.print(f"{error}\nThe picture is drawn without MLflow.", markup=False, highlight=False, soft_wrap=True)
        return None
    except Exception as error:
        raise unusable(uri, error) from error


def example_of(config: ScenarioConfig, splits: Splits, sweep_seed: int, compute: Compute, cache: Place) -> Example:
    """Poison the data with one attack.

    The training image shown is the poisoned one with the median change.

    Args:
        config: the attacker.
        splits: clean data.
        sweep_seed: of the attacker's draws.
        compute: where surrogates and generators are trained.
        cache: folder that keeps them.

    Raises:
        ConfigError: the attack does not fit the data, or poisons nothing.
    """
    scenario = build_scenario(config, splits, sweep_seed, 0, compute, cache)
    chosen = scenario.truth.poisoned.nonzero().squeeze(1)
    probe = scenario.truth.val
    if len(chosen) == 0 or len(probe.eligible) == 0:
        raise ConfigError(f"{config.name} has no image to show: its poison_rate is 0, or no image is eligible.")
    before, after = splits.train.images[chosen], scenario.data.images[chosen]
    changes = (after.int() - before.int()).abs().flatten(1).sum(1)
    shown = int(changes.argsort()[len(changes) // 2])
    test = probe.images[probe.eligible[0]]
    return Example(config, before[shown], after[shown], test, probe.triggered[0], scenario.cost)


def draw_gallery(shown: Sequence[Example], title: str, class_names: Sequence[str], path: Path) -> Path:
    """Draw a row for each attack: clean, poisoned and ten times the difference, in training and at test time.

    Args:
        shown: the rows.
        title: of the picture.
        class_names: of the data.
        path: of the PNG.
    """
    names = ("clean", "poisoned", f"difference x{AMPLIFIED}", "test image", "triggered", f"difference x{AMPLIFIED}")
    figure, grid = plt.subplots(len(shown), len(names), figsize=(10.4, 1.32 * len(shown) + 0.8), squeeze=False)
    for line, example in zip(grid, shown, strict=True):
        pairs = ((example.clean, example.poisoned), (example.test, example.triggered))
        images = [image for before, after in pairs for image in (before, after, _difference(before, after))]
        for axes, image in zip(line, images, strict=True):
            axes.imshow(
                image.permute(1, 2, 0).squeeze().numpy(), cmap="gray", interpolation="nearest", vmin=0, vmax=255
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        cost = example.cost
        ssim = "" if cost.ssim is None else f", SSIM {cost.ssim:.3f}"
        psnr = "labels only" if cost.psnr is None else f"PSNR {cost.psnr:.1f} dB{ssim}"
        aim = [] if example.scenario.resolved_target is not None else ["all to all"]
        aim += [f"{key} {shown_class}" for key, shown_class in _classes(example.scenario, class_names).items()]
        words = "\n".join([example.scenario.name, *aim, f"{cost.changed_share:.2%} changed", psnr])
        line[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=9, labelpad=8, parse_math=False)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=10)
    figure.tight_layout()
    figure.suptitle(title, fontsize=12, y=1.0, va="bottom")  # above the heads, however many rows there are
    return save_figure(figure, path)


def _classes(scenario: ScenarioConfig, class_names: Sequence[str]) -> dict[str, str]:
    """The single classes that an attack names, as people read them, by parameter."""
    known = scenario.by_number(class_names).classes()
    return {key: class_label(value, class_names) for key, value in known.items() if isinstance(value, int)}


def _difference(before: Tensor, after: Tensor) -> Tensor:
    """Ten times the change around middle grey, clipped: uint8 (C, H, W)."""
    return (128 + AMPLIFIED * (after.int() - before.int())).clamp(0, 255).to(torch.uint8)


def track_gallery(
    uri: str,
    experiment: str,
    shown: Sequence[Example],
    class_names: Sequence[str],
    misfits: Misfits,
    picture: Path,
    source: str,
) -> None:
    """Log the picture and the costs as an MLflow run of an experiment, and what was left out as its tag.

    Raises:
        ConfigError: the store fails.
    """
    set_short_timeouts()
    try:
        # A client, since MLflow's own functions would keep using this store afterwards.
        client = MlflowClient(tracking_uri=uri)
        run = client.create_run(experiment, tags={"role": "gallery"}, run_name=f"gallery {source}").info.run_id
        client.log_param(run, "data.source", source)
        for example in shown:
            name = example.scenario.name
            client.log_param(run, f"{name}.poison_rate", example.scenario.poison_rate)
            for key, shown_class in _classes(example.scenario, class_names).items():
                client.log_param(run, f"{name}.{key}", shown_class)
            for figure, value in asdict(example.cost).items():
                if value is not None:
                    client.log_metric(run, f"{name}/{figure}", value)
        if misfits.reasons:
            client.set_tag(run, "left_out", misfits.sentence())
        client.log_artifact(run, str(picture))
        client.set_terminated(run)
    except Exception as error:
        raise unusable(uri, error) from error

"""``deploy.yaml``: the setting that ``select`` chose, read again by ``train``."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sweeper.analysis.guarantee import Guarantee
from sweeper.analysis.selection import Selection
from sweeper.preset.spec import read_amp, read_parameters
from sweeper.run_folder.provenance import numeric_format
from sweeper.run_folder.record import REPLICATE
from sweeper.run_folder.tables import as_rows, finished, setting_params
from trainers.blind import Setting
from trainers.compute import amp_as_it_was
from trainers.data import DataConfig, Findings, load_unlabelled
from trainers.data.augmentation import Augmentation
from trainers.data.class_order import in_class_order
from trainers.data.config import RENDERED
from trainers.data.image_set import ImageSet
from trainers.data.pixels import WHITE
from trainers.data.stored import Images
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError
from trainers.models import ModelConfig, check_model
from trainers.params import LARGEST
from trainers.unlabelled import HELD_OUT, check_count


class _Images(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    image_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    class_names: Annotated[list[str], Field(min_length=2)]
    image_size: int | None = None
    background: str = WHITE
    max_value: float | None = None
    interpolation: str | None = None
    image_column: str | None = None
    label_column: str | None = None

    @model_validator(mode="after")
    def _check_rendering(self) -> "_Images":
        DataConfig(**{key: getattr(self, key) for key in RENDERED})
        return self


class Deployment(BaseModel):
    """The part of ``deploy.yaml`` that determines a training; evidence and origin beside it are for people."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, arbitrary_types_allowed=True)

    defense: str
    params: dict[str, Any]
    model: Annotated[ModelConfig, BeforeValidator(read_parameters(ModelConfig))]
    augment: Annotated[Augmentation, BeforeValidator(read_parameters(Augmentation))]
    amp: Annotated[str | None, BeforeValidator(read_amp)] = None
    pass_images: Annotated[int, Field(ge=8, le=LARGEST)] | None = None
    computed_in: str | None = None
    images: _Images
    source: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, content: Any) -> Any:
        if isinstance(content, dict) and "pass_images" not in content:
            return content | {"amp": amp_as_it_was(content.get("amp"))}
        return content

    @model_validator(mode="after")
    def _check_defense(self) -> "Deployment":
        if self.defense not in DEFENSES:
            raise ValueError(f"defense must be one of {', '.join(DEFENSES)}, but got {self.defense}.")
        kind = DEFENSES[self.defense].Params
        for key, value in self.params.items():
            kind.check(key, value)
        kind(**self.params)
        return self

    @property
    def numerics(self) -> int:
        """The numerics (:data:`trainers.seeding.NUMERICS`) with which the setting was found."""
        known = self.source.get("numerics", 1)
        return known if isinstance(known, int) else 1

    def data(
        self,
        source: str,
        image_size: int | None,
        unreadable: str,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> DataConfig:
        """The images of ``source``, read as those of the sweep were.

        Args:
            source: as ``data.source`` of a preset.
            image_size: height and width in pixels to resize to; null: as the sweep did.
            unreadable: what to do with images that cannot be read, as ``data.unreadable`` of a preset.
            image_column, label_column: of Parquet files, likewise; null: as the sweep has them.

        Raises:
            ConfigError: a value is not allowed.
        """
        known = self.images
        return DataConfig(
            source=source,
            image_size=image_size or known.image_size,
            background=known.background,
            max_value=known.max_value,
            interpolation=known.interpolation,
            unreadable=unreadable,
            image_column=image_column or known.image_column,
            label_column=label_column or known.label_column,
        )

    @property
    def setting(self) -> Setting:
        """Defense, parameters, network and augmentation to train with."""
        return Setting(self.defense, self.params, self.model, self.augment)

    def unlabelled(self, source: str | None, config: DataConfig, findings: Findings) -> Images | None:
        """The images without labels that the defense needs, uint8 (M, C, H, W); null if it needs none.

        Args:
            source: as given on the command line; null: what the setting names.
            config: how images are read, as the training images are.
            findings: gets what is left out, and warnings.

        Raises:
            ConfigError: images are needed and not given, given and not needed, or do not fit.
        """
        kind = DEFENSES[self.defense]
        wanted = kind.unlabelled(kind.Params(**self.params))
        if wanted is None:
            if source is not None:
                raise ConfigError(
                    f"--unlabelled is for defenses that need images without labels, and {self.defense} does not."
                )
            return None
        if source is None and wanted.source in HELD_OUT:
            raise ConfigError(
                f"{self.defense} needs images without labels besides the training images; give them as --unlabelled."
            )
        images = load_unlabelled(source or wanted.source, config, findings)
        check_count(wanted, len(images))
        shape, known = tuple(images.shape[1:]), tuple(self.images.image_shape)
        if shape != known:
            raise ConfigError(f"The unlabelled images have shape {shape} (C, H, W), but the training images {known}.")
        return images

    def check_fits(self, data: ImageSet) -> None:
        """Check that images have the shape and the classes that the setting was found for.

        Raises:
            ConfigError: they have another size, another number of channels, or other classes, or are too few for the
                defense's parameters.
        """
        known, given = set(self.images.class_names), set(data.class_names)
        if known != given:
            parts = [f"missing: {', '.join(in_class_order(known - given))}"] if known - given else []
            parts += [f"unknown: {', '.join(in_class_order(given - known))}"] if given - known else []
            raise ConfigError(
                f"The classes differ from those that the setting was found for ({'; '.join(parts)}); run a sweep on "
                "images like these, and select from it."
            )
        shape, wanted = tuple(data.images.shape[1:]), tuple(self.images.image_shape)
        if shape[0] != wanted[0]:
            raise ConfigError(f"The images have {shape[0]} channels, but the setting was found for {wanted[0]}.")
        if shape != wanted:
            raise ConfigError(
                f"The images are {shape[2]} x {shape[1]}, but the setting was found for {wanted[2]} x {wanted[1]}; "
                f"--image-size {wanted[1]} resizes them."
            )
        kind = DEFENSES[self.defense]
        check_model(self.model, data.shape, data.num_classes)
        kind.check(kind.Params(**self.params), data, self.model)


def read_deployment(path: Path) -> Deployment:
    """Read ``deploy.yaml``.

    Raises:
        ConfigError: the file is missing, a folder or damaged, or a value in it is not allowed.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give {path / 'deploy.yaml'}, which sweeper select writes.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no valid date
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no setting to deploy; sweeper select writes one.")
    try:
        return Deployment.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        text = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {where}{': ' if where else ''}{text.rstrip('.')}.") from error


_READ_ALIKE = (*RENDERED, "image_column", "label_column")
"""Keys of ``data`` that say how the images of a training are read too."""
_FIGURES = (
    "val_acc", "val_acc_sd", "val_balanced_acc", "val_balanced_acc_sd", "val_min_class_acc", "val_min_class_acc_sd",
    "val_asr_excess", "val_asr_excess_sd", "val_asr", "val_asr_sd", "asr_floor", "val_asr_worst", "control_asr",
    "seeds",
)  # fmt: skip


def deployment(
    selection: Selection, frame: pd.DataFrame, sweep: dict[str, Any], bounds: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``deploy.yaml``: the setting, the evidence, and where it came from.

    Args:
        selection: the choice.
        frame: rows of ``trials.parquet``.
        sweep: content of ``sweep.yaml``.
        bounds: what the setting had to keep.
    """
    point, known = selection.point, selection.guarantee
    trials = finished(frame)
    own = trials[trials["config_id"] == point["config_id"]].index  # against the other attackers too
    counted = (frame["role"] == REPLICATE) & frame["seed"].isin([] if known is None else known.seeds)
    rows = as_rows(frame[frame.index.isin(own) | counted])
    preset = sweep["preset"]
    evidence = [
        {key: row.get(key) for key in (
            "trial_id", "role", "status", "scenario", "attack", "poison_rate", "target", "class.target", "seed",
            "val_acc", "val_balanced_acc", "val_min_class_acc", "val_asr_excess", "val_asr", "asr_floor", "control_asr",
            "test_acc", "test_balanced_acc", "test_min_class_acc", "test_asr_excess", "test_asr", "test_asr_floor",
            "n_eval",
        )} for row in rows
    ]  # fmt: skip
    return {
        "defense": point["defense"],
        "params": setting_params(rows[0]),
        "model": preset["model"],
        "augment": preset["augment"],
        "amp": preset["amp"],
        "pass_images": preset.get("pass_images"),
        "computed_in": numeric_format(preset),
        "images": {key: sweep["data"][key] for key in ("image_shape", "class_names")}
        | {key: preset["data"][key] for key in _READ_ALIKE if key in preset["data"]},
        "chosen_for": {
            **bounds,
            "environment": point["environment"] or None,
            "hardest_of": selection.hardest_of,
            "no_evidence": list(selection.no_evidence),
        },
        **{name: point[name] for name in _FIGURES},
        "certified": None if known is None else _certified(known),
        "unmeasured_classes": list(selection.unmeasured),
        "lost_classes": [] if selection.lost is None else list(selection.lost.classes),
        "evidence": evidence,
        "source": {
            "sweep": preset["name"],
            "config_id": point["config_id"],
            "numerics": sweep["numerics"],
            "data": preset["data"],
            "data_fingerprint": sweep["data_fingerprint"],
            **sweep["provenance"],
        },
    }


def _certified(known: Guarantee) -> dict[str, Any]:
    """What a test guarantees of the setting, without its name and its replicates' seeds, which are elsewhere."""
    names = [part.name for part in fields(known) if part.name not in ("setting", "seeds")]
    return {name: getattr(known, name) for name in names}

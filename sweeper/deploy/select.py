"""Chooses the setting to deploy, and writes it to ``deploy.yaml``."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import yaml

from sweeper.analysis.certificate_terms import check_steps
from sweeper.analysis.certified import select_certified
from sweeper.analysis.confirmed import confirmed
from sweeper.analysis.selection import NotConfirmed, NothingQualifies, Selection, select
from sweeper.deploy.bounds import Bounds, confirm_command, go_on
from sweeper.deploy.deployment import deployment
from sweeper.preset.class_numbers import describe_classes
from sweeper.report.tables import setting_of
from sweeper.run_folder.certificate import Certificate, read_certificate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import as_rows
from sweeper.tracking.store import attach, tracking_uri
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError
from trainers.storage.files import write_text


@dataclass(frozen=True)
class Selected:
    """The setting that was written to ``deploy.yaml``.

    Args:
        bounds: what it had to keep.
        selection: the setting and its figures.
        searched: the values that the search chose, as text; empty if it chose none.
        confirmed: its figures from runs with fresh seeds, a row of :func:`sweeper.analysis.confirmed.confirmed`; null
            if there are none.
        certificate: the test of the run folder; null if none was begun.
        unlabelled: whether its defense needs images without labels.
        replaced: whether ``deploy.yaml`` held an earlier selection.
        classes: those that the sweep's attacks name, as text.
        tracked: whether MLflow's run of the sweep holds ``deploy.yaml`` too.
    """

    bounds: Bounds
    selection: Selection
    searched: str
    confirmed: dict[str, Any] | None
    certificate: Certificate | None
    unlabelled: bool
    replaced: bool
    classes: str
    tracked: bool


def select_setting(folder: RunFolder, bounds: Bounds) -> Selected:
    """Choose the setting to deploy, and write it to ``deploy.yaml`` and to MLflow's run of the sweep.

    Args:
        folder: of the sweep.
        bounds: what the setting must keep.

    Raises:
        NothingQualifies: no setting keeps the bounds.
        ConfigError, PresetError: the folder is damaged, or ``deploy.yaml`` cannot be written.
    """
    frame, sweep, certificate = folder.read_trials(), folder.read_sweep(), read_certificate(folder.path)
    if certificate is not None:
        check_steps(certificate)
    replaced = folder.deploy.exists()
    try:
        selection = _select(frame, certificate, bounds)
    except NothingQualifies as error:
        text = str(error)
        if isinstance(error, NotConfirmed):
            first = f"Run {confirm_command(folder.path, bounds)} first."
            text += f" {first if certificate is None else go_on(folder.path, certificate)}"
        if replaced:
            text += f" {folder.deploy} still holds an earlier selection."
        raise NothingQualifies(text) from error
    content = deployment(selection, frame, sweep, asdict(bounds))
    spec = folder.spec()
    try:
        write_text(folder.deploy, yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise ConfigError(f"{folder.deploy} cannot be written: {error.strerror}.") from error
    again = confirmed(frame, bounds.over)
    again = again[again["config_id"] == selection.point["config_id"]]
    defense = DEFENSES[content["defense"]]
    return Selected(
        bounds,
        selection,
        searched=setting_of(spec, content["defense"], content["params"]),
        confirmed=None if again.empty else as_rows(again)[0],
        certificate=certificate,
        unlabelled=defense.unlabelled(defense.Params(**content["params"])) is not None,
        replaced=replaced,
        classes=describe_classes(spec.scenario_blocks, folder.class_names),
        tracked=attach(tracking_uri(folder.path.resolve().parent), sweep, folder.deploy),
    )


def _select(frame: pd.DataFrame, certificate: Certificate | None, bounds: Bounds) -> Selection:
    """The setting within the bounds: by the search, or, at a confidence, the certified one."""
    asked = asdict(bounds)
    confidence = asked.pop("confidence")
    if confidence is None:
        return select(frame, **asked)
    return select_certified(frame, certificate, confidence, **asked)

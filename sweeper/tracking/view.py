"""A saved view of one sweep for MLflow's UI: charts of its trials with the right axes, and the link that opens it.

MLflow keeps a view as a tag of the experiment, in a format of its own that its documentation does not describe; it was
read from the built UI of MLflow 3.17. ``tests/sweeper/tracking/test_view_browser.py`` opens one, to notice a change. A
store that lacks it, or an MLflow that cannot read it, has all the runs all the same.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from search_spaces.distributions import Searched
from sweeper.preset.blocks import Block
from sweeper.preset.spec import SweepSpec, validate
from sweeper.run_folder.record import TRIAL
from sweeper.tracking.store import set_short_timeouts

TAG = "mlflow.sharedViewState."
"""Start of the tag's key; the view's own key follows, here the id of the sweep."""
SECTION = "sweep"
COMPRESSED = "deflate;"
"""Start of a state that is compressed: an experiment's tag takes 5,000 characters."""

X_AXIS, Y_AXIS = "final/val_asr_excess", "final/val_acc"


def view_of(sweep: Mapping[str, Any], name: str, now_ms: int) -> tuple[str, str]:
    """Key and value of the tag that holds the view of a sweep.

    Args:
        sweep: content of ``sweep.yaml``.
        name: by which MLflow's list of saved views shows it.
        now_ms: when it is written, in milliseconds since 1970.

    Raises:
        PresetError: the preset is of a version that this program does not read.
    """
    state = _state(sweep["sweep_id"], validate(sweep["preset"], "sweep.yaml"))
    packed = COMPRESSED + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    envelope = {"name": name, "createdAt": now_ms, "updatedAt": now_ms, "state": packed}
    return TAG + sweep["sweep_id"], json.dumps(envelope)


def link_to_view(uri: str, sweep: Mapping[str, Any], address: str) -> str | None:
    """The address of a sweep's view in MLflow's UI; null if the store holds none, or does not answer.

    Args:
        uri: of the tracking store.
        sweep: content of ``sweep.yaml``.
        address: of the UI.
    """
    set_short_timeouts()
    try:
        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(sweep["preset"]["name"])
    except Exception:  # noqa: BLE001  # of a link nobody needs to know why it is missing
        return None
    if experiment is None or TAG + sweep["sweep_id"] not in experiment.tags:
        return None
    runs = f"{address.rstrip('/')}/#/experiments/{experiment.experiment_id}/runs"
    return f"{runs}?compareRunsMode=CHART&viewStateShareKey={sweep['sweep_id']}"


def _state(sweep_id: str, spec: SweepSpec) -> dict[str, Any]:
    """What MLflow's UI shows: which runs, in which columns, in which charts."""
    axes = _axes(spec)
    parameters, order = _searched(spec), axes[1] if spec.attacking else axes[0]
    head = {"metricSectionId": SECTION, "deleted": False, "isGenerated": False}
    scatter = {
        "uuid": "scatter", "type": "SCATTER", "displayName": f"{axes[1]} against {axes[0]}", "runsCountToCompare": 100,
        **{axis: {"key": name, "type": "METRIC"} for axis, name in zip(("xaxis", "yaxis"), axes, strict=True)},
    }  # fmt: skip
    parallel = {
        "uuid": "parallel", "type": "PARALLEL", "displayName": "Searched parameters", "runsCountToCompare": 100,
        "selectedParams": parameters, "selectedMetrics": list(reversed(axes)), "showAllRuns": False,
    }  # fmt: skip
    return {
        "searchFilter": f"tags.sweep_id = '{sweep_id}' and tags.role = '{TRIAL}'",
        # In any order but that of time MLflow shows children by themselves, not folded up under their parent.
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": not spec.attacking,
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": [*(f"metrics.`{name}`" for name in axes), *(f"params.`{name}`" for name in parameters)],
        "compareRunCharts": [chart | head for chart in (scatter, *([parallel] if parameters else []))],
        "compareRunSections": [
            {"uuid": SECTION, "name": SECTION, "display": True, "isReordered": True, "deleted": False},
            *({"uuid": name, "name": name, "display": False, "isReordered": True, "deleted": False}
              for name in ("final", *_sections(spec), "Model metrics", "System metrics")),
        ],
        "isAccordionReordered": True,
    }  # fmt: skip


def _axes(spec: SweepSpec) -> tuple[str, str]:
    """The metrics of the scatter plot, that of x first: an attacker's sweep has no accuracy to trade."""
    return ("final/detection_auroc", f"final/{spec.attack_metric}") if spec.attacking else (X_AXIS, Y_AXIS)


def _sections(spec: SweepSpec) -> list[str]:
    """Sections that MLflow makes for the curves of each scenario and seed; they stay closed."""
    return [f"{block.values['name']}/seed{seed}" for block in spec.scenario_blocks for seed in spec.seeds]


def _searched(spec: SweepSpec) -> list[str]:
    """The searched parameters that every trial has, as its run names them: a run that lacks one would not be drawn."""

    def names(block: Block, title: str) -> list[str]:
        return [
            f"{title}.{key}" for key, value in block.values.items() if isinstance(value, Searched) and not value.when
        ]

    found = names(spec.defense[0], "defense") if len(spec.defense) == 1 else []
    if spec.search.scenarios == "all":
        found += [name for block in spec.scenario_blocks for name in names(block, block.values["name"])]
    return found

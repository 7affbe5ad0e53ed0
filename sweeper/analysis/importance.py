"""Importance of searched parameters, by fANOVA (Hutter et al. 2014, as implemented in Optuna)."""

from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import create_trial

from sweeper.analysis.frontier import ENVIRONMENT_KEYS, KEYS, with_environments
from sweeper.preset.spec import SCENARIO, SweepSpec
from sweeper.run_folder.tables import as_rows, finished, setting_params

FEWEST = 10
"""Fewest settings for which importances are computed."""
MOST, TREES = 300, 32
"""Most settings used (more are thinned out evenly), and number of trees; the time grows faster than either."""


def importances(spec: SweepSpec, table: pd.DataFrame, frame: pd.DataFrame) -> tuple[list[dict[str, Any]], str]:
    """Importance of each searched parameter for accuracy, and for what the trigger adds or, in a sweep with attack
    success itself as objective, for that (:attr:`sweeper.preset.spec.SweepSpec.attack_metric`).

    Only parameters that every setting has are used: those that apply under a condition are left out.

    Args:
        spec: the sweep.
        table: points of the frontier.
        frame: rows of ``trials.parquet``.

    Returns:
        For each figure, its name and each parameter's share of its variance; and a sentence that explains the shares.
    """
    # These import scikit-learn, which takes two seconds.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    figures = ("val_acc", spec.attack_metric)
    points = table[table["weak"] == ""].dropna(subset=[*figures])
    if len(points) < FEWEST:
        return [], (
            f"Fewer than {FEWEST} settings finished on sound evidence: too few to tell which parameter matters."
        )
    points = points.iloc[np.linspace(0, len(points) - 1, min(MOST, len(points))).astype(int)]
    trials = with_environments(finished(frame), frame).drop_duplicates([*KEYS, "scenario"])
    met = {key: {row["scenario"]: row for row in as_rows(group)} for key, group in trials.groupby(KEYS)}
    rows = as_rows(points[[*KEYS, *figures]])
    space = {name: searched for name, searched in spec.space().items() if name not in spec.environment()}
    values = {name: [_value(met[tuple(row[key] for key in KEYS)], name) for row in rows] for name in space}
    names = [name for name, column in values.items() if None not in column and len({repr(v) for v in column}) > 1]
    if not names:
        return [], "No searched parameter applies to every setting."
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: space[name].distribution() for name in names}
    by_figure = []
    for figure in figures:
        if len({row[figure] for row in rows}) == 1:
            continue  # nothing varies, so nothing explains it
        study = optuna.create_study(direction="maximize")
        for number, row in enumerate(rows):
            params = {name: values[name][number] for name in names}
            study.add_trial(create_trial(params=params, distributions=distributions, value=row[figure]))
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=0))
        shown = [(_brief(name, names), float(share)) for name, share in shares.items()]
        by_figure.append({"objective": figure, "values": shown[::-1]})
    return by_figure, (
        f"Share of the variance of a figure that each parameter explains by itself (fANOVA over {len(rows)} settings). "
        "With few settings this is only a hint, and a sampler that prefers good regions distorts it."
    )


def _brief(name: str, names: list[str]) -> str:
    """The parameter's name without defense or scenario, unless another one has the same."""
    brief = name.partition(".")[2] or name
    return brief if [other.partition(".")[2] or other for other in names].count(brief) == 1 else name


def _value(met: dict[str, dict[str, Any]], name: str) -> Any:
    """The value of a parameter by its name in the study, from a row for each scenario met; null if it has none."""
    row = next(iter(met.values()))
    if name in ("defense", SCENARIO):
        return row[name]
    kind, _, key = name.partition(".")
    if kind == "scenario" or kind in met:
        return met.get(kind, row).get(key if key in ENVIRONMENT_KEYS else f"param.scenario.{key}")
    return setting_params(row).get(key) if kind == row["defense"] else None

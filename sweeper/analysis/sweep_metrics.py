"""The metrics of a sweep's own run in MLflow, by which sweeps are compared."""

import re
from collections.abc import Mapping

from sweeper.analysis.overview import Overview


def sweep_metrics(volumes: Mapping[str, float], overview: Overview) -> dict[str, float]:
    """The metrics of a sweep's own run: the hypervolumes, and the figures of its overview; what is null is left out.

    Args:
        volumes: hypervolume of each environment.
        overview: of the sweep.
    """
    metrics = {
        "trainings_run": float(overview.trainings),
        "trainings_saved": float(overview.saved),
        "hours": overview.hours,
        "hours_saved": overview.hours_saved,
    }
    metrics |= {f"hypervolume{_suffix(name)}": value for name, value in volumes.items()}
    metrics |= {f"hypervolume_below_interest{_suffix(name)}": value for name, value in overview.volumes.items()}
    for environment, by_level in overview.best.items():
        for level, best in by_level.items():
            if best is not None:
                name = f"best_acc_at_{level:g}"
                metrics[f"{name}{_suffix(environment)}"] = best.acc
                if best.sd is not None:
                    metrics[f"{name}_sd{_suffix(environment)}"] = best.sd
    return metrics


def _suffix(environment: str) -> str:
    """MLflow allows few characters in a metric's name. The numbers of classes stay, whatever their names are."""
    return f"/{re.sub(r'[^A-Za-z0-9_. -]', '', environment.replace('=', ' '))}" if environment else ""

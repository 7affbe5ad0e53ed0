"""Runs a sweep on Ray Tune. No other package uses Ray Tune, except the patches in ``cluster/ray_patches.py``."""

from sweeper.shadows import hidden_package

WORKER = f"{__name__}.worker"
"""The module that trainings run, which each host must be able to load."""

_hidden = hidden_package()
if _hidden is not None:  # on a host; the command itself would have refused
    raise ImportError(_hidden)

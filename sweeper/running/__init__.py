"""Runs a sweep on Ray Tune. No other package uses Ray Tune, except the patches in ``cluster/ray_patches.py``."""

WORKER = f"{__name__}.worker"
"""The module that trials run, which each host must be able to load."""

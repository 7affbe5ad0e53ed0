"""Runs a sweep on Ray Tune. No other room speaks Ray Tune."""

WORKER = f"{__name__}.worker"
"""The module that trials run, which each host must be able to load."""

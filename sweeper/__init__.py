"""Specifies, runs and tracks sweeps, and selects the setting to deploy from their results."""

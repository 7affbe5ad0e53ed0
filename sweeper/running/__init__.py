"""Runs a sweep on Ray Tune. No other room speaks Ray Tune."""

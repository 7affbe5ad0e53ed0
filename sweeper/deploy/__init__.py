"""Deployment: select a setting, train a model with it, predict, and review suspicious images."""

"""Decides what to train next. Does not depend on Ray, MLflow or files."""

"""What to train next. Knows nothing of Ray, MLflow or files."""

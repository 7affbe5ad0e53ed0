"""MLflow, the UI that shows it, and shared copies of Optuna studies."""

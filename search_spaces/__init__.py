"""Search spaces: YAML presets, the grammar of values and distributions, and their Optuna suggestions."""

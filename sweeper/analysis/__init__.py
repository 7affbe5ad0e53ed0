"""What the rows of ``trials.parquet`` mean: frontier, uncertainty, selection, comparison."""

"""Analysis of the rows of ``trials.parquet``: frontier, uncertainty, selection, comparison."""

"""What lasts: the run folder with its records and tables."""

"""The run folder, which keeps a sweep's records and tables."""

"""Programs that measure. Run them from the root of the repository: ``python -m benchmarks.throughput``."""

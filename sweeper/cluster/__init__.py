"""The hosts that a sweep runs on: their resources, whether they are usable, and sweeps that run as Ray jobs."""

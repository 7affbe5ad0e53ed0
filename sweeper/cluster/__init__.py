"""The hosts that a sweep runs on: what they have, whether they are usable, and sweeps that run there as jobs."""

"""From a selected setting to a model in use: train, predict, and what is suspicious in the data."""

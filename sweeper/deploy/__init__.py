"""From a sweep to a model in use: select a setting, train with it, predict, and see what is suspicious in the data."""

"""Files, object stores, states of trainings and saved models."""

"""Measurements of trainings and attacks."""

"""Validated presets: the specification of a sweep."""

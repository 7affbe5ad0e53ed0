"""Components that several defenses share."""

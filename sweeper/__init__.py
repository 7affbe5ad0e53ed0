"""How many trials become a decision: specification, search, scheduling, tracking, results, frontier and selection."""

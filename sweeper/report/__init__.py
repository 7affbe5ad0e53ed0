"""Results for people to read: the report page, text tables and pictures."""

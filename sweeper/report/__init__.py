"""Results as people read them: the report page, tables in plain text, and pictures."""

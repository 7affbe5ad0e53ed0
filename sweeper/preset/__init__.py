"""What a user writes, validated: the specification of a sweep."""

"""The commands, by what they are for.

Each imports what it needs when it is called: torch, Ray and MLflow take seconds, for which neither help nor a mistyped
option should wait.
"""

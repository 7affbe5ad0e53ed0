"""The commands, grouped by purpose.

A command imports torch, Ray and MLflow only when it is called: importing them takes seconds, for which ``--help`` and a
mistyped option should not wait.
"""

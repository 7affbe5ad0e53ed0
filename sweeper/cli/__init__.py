"""The commands, grouped by purpose.

A command imports torch, Ray and MLflow only when it is called: importing them takes seconds, for which ``--help`` and a
mistyped option should not wait.
"""

import sys

from sweeper.shadows import hidden_package

_hidden = hidden_package()
if _hidden is not None:  # nothing below can be imported
    print(_hidden, file=sys.stderr)
    raise SystemExit(2)

"""The commands, by what they are for.

Each imports what it needs when it is called: torch, Ray and MLflow take seconds, for which neither help nor a mistyped
option should wait.
"""

import sys

from sweeper.shadows import hidden_package

_hidden = hidden_package()
if _hidden is not None:  # nothing below can be imported
    print(_hidden, file=sys.stderr)
    raise SystemExit(2)

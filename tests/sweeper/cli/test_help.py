"""Help, which is asked for more often than anything else."""

import json
import subprocess
import sys

SLOW = ("torch", "ray", "mlflow", "optuna", "pandas", "matplotlib")


def test_help_loads_nothing_that_takes_seconds() -> None:
    script = f"""
import json, sys
from typer.testing import CliRunner
from sweeper.cli.main import app
print(json.dumps([CliRunner().invoke(app, ["--help"]).output, [name for name in {SLOW} if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    output, loaded = json.loads(done.stdout)
    assert "Run the sweep of a preset" in output
    assert loaded == []

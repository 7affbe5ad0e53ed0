"""The command line."""

import sys

import typer

from sweeper.cli import beforehand, cache, confirming, models, results, sweeps
from sweeper.cli.beforehand import DEFAULT_PRESET
from sweeper.cli.signals import end_as_with_ctrl_c
from sweeper.cli.terminal import lasting_output

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Find the hyperparameters of a backdoor defense for training image classifiers on untrusted data.",
)
for group in (sweeps, confirming, results, models, beforehand, cache):
    app.add_typer(group.app)


def main() -> None:
    """Entry point; without any argument, the default preset is run."""
    end_as_with_ctrl_c()
    if len(sys.argv) == 1:
        sys.argv += ["run", DEFAULT_PRESET]
    with lasting_output():
        app()

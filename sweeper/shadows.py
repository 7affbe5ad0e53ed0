"""Packages of others that hide those of this program: Python takes the first of a name that it comes upon."""

import sys
from importlib.util import find_spec
from pathlib import Path

OWN = {"trainers": "seeding.py", "search_spaces": "loader.py"}
LIBRARIES = {
    "PIL": "Image.py",
    "jinja2": "environment.py",
    "matplotlib": "pyplot.py",
    "mlflow": "version.py",
    "numpy": "version.py",
    "optuna": "version.py",
    "pandas": "core/frame.py",
    "plotly": "basedatatypes.py",
    "pyarrow": "compute.py",
    "pydantic": "main.py",
    "ray": "_version.py",
    "rich": "console.py",
    "safetensors": "torch.py",
    "scipy": "version.py",
    "sklearn": "base.py",
    "torch": "version.py",
    "torchmetrics": "metric.py",
    "torchvision": "utils.py",
    "typer": "main.py",
    "yaml": "loader.py",
}
"""A file of each package of this program, and of each library that it needs, which another of its name hardly has."""


def refuse_hidden_packages() -> None:
    """End a command, which could only break off with an error of Python's, if a package that it needs is hidden.

    Raises:
        SystemExit: with code 2, after one sentence on standard error.
    """
    hidden = hidden_package()
    if hidden is not None:
        print(hidden, file=sys.stderr)
        raise SystemExit(2)


def hidden_package() -> str | None:
    """The sentence about a package that is hidden, and the folder that hides it; null if none is."""
    for name, mark in (OWN | LIBRARIES).items():
        spec = find_spec(name)
        if spec is None:
            if name in OWN:
                return f"The package {name} of this program is not there; install the program anew."
            continue  # whoever imports it says so
        folders = spec.submodule_search_locations or []
        if any((Path(folder) / mark).is_file() for folder in folders):
            continue
        other = Path(folders[0]) if folders else Path(str(spec.origin))
        hides = f"{other} hides the library {name}, since it has the same name"
        if name in OWN:
            hides = f"{other} hides the package {name} of this program, since it has the same name"
        return f"{hides}: take {other.parent} out of PYTHONPATH, or start the command in another folder."
    return None

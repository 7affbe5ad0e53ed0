"""Packages of others that hide those of this program: Python takes the first of a name that it comes upon."""

from importlib.util import find_spec
from pathlib import Path

MARKS = {"trainers": "seeding.py", "search_spaces": "loader.py"}
"""A file of each package of this program that another of its name hardly has."""


def hidden_package() -> str | None:
    """The sentence about a package that is hidden, and the folder that hides it; null if none is."""
    for name, mark in MARKS.items():
        spec = find_spec(name)
        if spec is None:
            return f"The package {name} of this program is not there; install the program anew."
        folders = spec.submodule_search_locations or []
        if any((Path(folder) / mark).is_file() for folder in folders):
            continue
        other = Path(folders[0]) if folders else Path(str(spec.origin))
        return (
            f"{other} hides the package {name} of this program, since it has the same name: take {other.parent} out of "
            "PYTHONPATH, or start the command in another folder."
        )
    return None

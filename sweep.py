"""The script that ``ray submit`` ships, and the entry of the command ``sweeper``."""

import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Run ``sweeper``, unless a package of another program has its name."""
    spec = find_spec("sweeper")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or []]
    if spec is not None and not any((folder / "cli" / "main.py").is_file() for folder in folders):
        other = folders[0] if folders else Path(str(spec.origin))
        print(
            f"{other} hides the package sweeper of this program, since it has the same name: take {other.parent} out "
            "of PYTHONPATH, or start the command in another folder.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    from sweeper.__main__ import main as run

    run()


if __name__ == "__main__":
    main()

"""What odd inputs and circumstances make the program say: a list with command, exit code and sentences.

Each input is made in a temporary folder, and the real command runs there in a process of its own. Nothing is checked:
the list is read by a person. ``OMP_NUM_THREADS=1 python -m benchmarks.odd_inputs > benchmarks/odd_inputs.md``
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.commands import Case, Seen, observe
from benchmarks.odd_images import CASES as IMAGES
from benchmarks.odd_machines import CASES as MACHINES

CASES = {"Images and labels": IMAGES, "Machines": MACHINES}
TITLE = """# Odd inputs

What the program says to odd inputs and circumstances, each of them from a public bug report of another program, and to
one more of each kind (in italics). Made by `python -m benchmarks.odd_inputs`; `--only NAME` makes one of them again.
Commands run in the folder that holds the input, and paths are relative to it. Only lines that matter are listed.
Seconds are those of a machine that others may have used too."""
HEAD = "| kind | case | command | exit code | seconds | seen |\n| --- | --- | --- | ---: | ---: | --- |"


def rows(case: Case, seen: Sequence[Seen]) -> list[str]:
    """Lines of a Markdown table, one for each command of a case."""
    name = f"*{case.name}*" if case.ours else case.name
    return [
        f"| {case.kind if not number else ''} | {name if not number else ''} | {_code(one.command)} | "
        f"{'killed' if one.code is None else one.code} | {one.seconds:.0f} | "
        f"{'<br>'.join(map(_code, one.lines)) or 'nothing'} |"
        for number, one in enumerate(seen)
    ]


def _code(text: str) -> str:
    """Text as code in a cell of a table."""
    text = text.replace("|", r"\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def main(argv: Sequence[str] | None = None) -> int:
    """Run all cases, or some, and print the list."""
    names = [case.name for cases in CASES.values() for case in cases]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.odd_inputs", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    args = parser.parse_args(argv)
    print(TITLE)
    for title, cases in CASES.items():
        wanted = [case for case in cases if case.name in args.only]
        if wanted:
            print(f"\n## {title}\n\n{HEAD}", flush=True)
        for case in wanted:
            print("\n".join(rows(case, observe(case))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What every metric and column means."""

from reference.markdown import code, table
from reference.meanings import ATTACK_COST, CURVE, IDENTITY, MEASURED, SETTING

GROUPS = {
    "Which training it is": IDENTITY,
    "What is measured": MEASURED,
    "What the attack changes": ATTACK_COST,
    "A setting over its seeds": SETTING,
    "Only in curves.parquet": CURVE,
}


def figures() -> str:
    """A table for each group of columns."""
    parts = []
    for title, group in GROUPS.items():
        rows = [(code(name), meaning) for name, meaning in group.items()]
        parts += [f"## {title}", table(("column", "meaning"), rows)]
    return "\n\n".join(parts)

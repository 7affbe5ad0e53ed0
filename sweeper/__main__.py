"""``python -m sweeper``, and the command ``sweeper``."""

from sweeper.shadows import refuse_hidden_packages


def main() -> None:
    """Run the command line."""
    refuse_hidden_packages()
    from sweeper.cli.main import main as run  # which imports what may be hidden

    run()


if __name__ == "__main__":
    main()

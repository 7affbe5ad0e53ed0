"""The script that ``ray submit`` ships: ``sweeper`` under another name."""

from sweeper.cli.main import main

if __name__ == "__main__":
    main()

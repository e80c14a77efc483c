"""Command line of regimes: python cli.py --help."""

from regimes.cli import main

if __name__ == "__main__":
    main()

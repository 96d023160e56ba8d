"""Lets `python -m bincount` do what the `bincount` command does."""

from bincount.cli import main

if __name__ == "__main__":
    main()

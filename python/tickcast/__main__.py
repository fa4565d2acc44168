"""``python -m tickcast``: the same as the command ``tickcast``."""

from tickcast.cli import main

if __name__ == "__main__":
    main()

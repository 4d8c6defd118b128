"""`python -m fieldmark` is the command line."""

from fieldmark.cli import main

if __name__ == "__main__":
    main()

"""`python -m fieldmark` is the command line."""

from fieldmark.cli.program import run

if __name__ == "__main__":
    run()

"""The command line: parsing and printing; the only package that prints."""

from fieldmark.cli.app import main

__all__ = ["main"]

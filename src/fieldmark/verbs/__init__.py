"""The public verbs of the Python interface; the command line calls the same ones."""

from fieldmark.verbs.comparing import compare
from fieldmark.verbs.run import Evaluation, Run, load_run
from fieldmark.verbs.training import train

__all__ = ["Evaluation", "Run", "compare", "load_run", "train"]

"""The commands, by name; each is imported only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from fieldmark import __version__
from fieldmark.cli.output import fail
from fieldmark.errors import FieldmarkError

SUMMARY_HELP = """Show a model layer by layer: shapes, parameters, multiply-adds, memory, field.

Multiply-adds are of one image: (weights + bias) x output positions for convolutions and linear
layers, and the two products of attention. Sizes are of fp32 numbers, kB and MB of 1000 and 1000000
bytes: "output" is what one layer returns for one image; "memory" adds up the images, the outputs of
all layers with weights twice (for their gradients) and the parameters; "training" is what a step
holds when backward begins. "sees" is the receptive field in px, "all" behind global pooling,
flattening or attention. Nothing is computed and no weights are loaded.
"""

COMMANDS = {
    "demo": ("demo:demo", "Draw sample leaves, train on them, evaluate: the main job in a minute."),
    "sample": ("sample:sample", "Write a drawn sample set as a folder with a table."),
    "check": ("check:check", "Look for faults in labelled images before training on them."),
    "train": ("train:train", "Train one run from labelled images and evaluate it."),
    "evaluate": ("evaluate:evaluate", "Score a run on a split or on other labelled images."),
    "ensemble": ("ensemble:ensemble", "Average the probabilities of runs, and score them."),
    "predict": ("predict:predict", "Classify files, folders and tables."),
    "inspect": ("inspect:inspect", "Look inside a run: figures of what it learned and why."),
    "compare": ("compare:compare", "Hold runs against each other: intervals, tests, costs."),
    "study": ("study:study", "Train a grid of recipes over seeds, and compare them."),
    "long-tail": ("long_tail:long_tail", "Compare remedies for rare classes."),
    "export": ("export:export", "Write a run as an ONNX file or a timm folder, with a proof."),
    "report": ("report:report", "Write the HTML report of runs anew."),
    "recipes": ("recipes:recipes", "List the shipped recipes, or show one whole."),
    "models": ("models:models", "List the models that a recipe can name."),
    "bench": ("bench:bench", "Measure images a second on this machine, beside its limit."),
    "summary": ("summary:summary", SUMMARY_HELP),
}


def build_app() -> App:
    """The command line as an object."""
    app = App(
        name="fieldmark",
        help="Train, compare and look inside image classifiers for your own specialised pictures.",
        version=__version__,
        default_parameter=Parameter(negative=()),
    )
    for name, (home, line) in COMMANDS.items():
        app.command(f"fieldmark.cli.{home}", name=name, help=line)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit with 0 (fine), 2 (the user's input) or, for a bug, 1.

    A command that has answered and yet failed returns its exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = build_app()(
            words, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except (CycloptsError, FieldmarkError) as error:
        sys.exit(fail(error, as_json="--json" in words))
    except KeyboardInterrupt:
        sys.stderr.write("\nfieldmark: stopped. A run goes on by the same command with --resume\n")
        sys.exit(130)
    except (BrokenPipeError, SystemExit) as ended:
        # The reader (head, less) has gone; there is nobody left to tell. rich exits with 1 then.
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, BrokenPipeError):
            raise
        sys.stderr.close()
        sys.exit(0)
    if code:
        sys.exit(code)

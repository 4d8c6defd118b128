"""fieldmark: train, compare and look inside image classifiers for specialised pictures.

```python
import fieldmark as fm

table = fm.read_table("leaves.csv")
run = fm.train(table, recipe="quick", out="runs/leaves")
print(run.evaluate().metrics)
fm.load_run("runs/leaves").predictor()("leaf.jpg", top=5)
```

Names are resolved on first use, so importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fieldmark.data.sources import read_table
    from fieldmark.data.table import Row, Table
    from fieldmark.errors import FieldmarkError
    from fieldmark.evaluation.comparison.records import Comparison
    from fieldmark.models.summary.table import Summary, summarize
    from fieldmark.recipes import Recipe, read_recipe
    from fieldmark.verbs import Check, Evaluation, Run, check, compare, inspect, load_run, train
    from fieldmark.verbs.ensemble import ensemble
    from fieldmark.verbs.long_tail import long_tail
    from fieldmark.verbs.study import study
    from fieldmark.verbs.study_records import Study

__version__ = "0.1.0"
__all__ = [
    "Check",
    "Comparison",
    "Evaluation",
    "FieldmarkError",
    "Recipe",
    "Row",
    "Run",
    "Study",
    "Summary",
    "Table",
    "check",
    "compare",
    "ensemble",
    "inspect",
    "load_run",
    "long_tail",
    "read_recipe",
    "read_table",
    "study",
    "summarize",
    "train",
]

_HOMES = {
    "Check": "fieldmark.verbs",
    "Comparison": "fieldmark.evaluation.comparison.records",
    "Evaluation": "fieldmark.verbs",
    "FieldmarkError": "fieldmark.errors",
    "Recipe": "fieldmark.recipes",
    "Row": "fieldmark.data.table",
    "Run": "fieldmark.verbs",
    "Study": "fieldmark.verbs.study_records",
    "Summary": "fieldmark.models.summary.table",
    "Table": "fieldmark.data.table",
    "check": "fieldmark.verbs",
    "compare": "fieldmark.verbs",
    "ensemble": "fieldmark.verbs.ensemble",
    "inspect": "fieldmark.verbs",
    "load_run": "fieldmark.verbs",
    "long_tail": "fieldmark.verbs.long_tail",
    "read_recipe": "fieldmark.recipes",
    "read_table": "fieldmark.data.sources",
    "study": "fieldmark.verbs.study",
    "summarize": "fieldmark.models.summary.table",
    "train": "fieldmark.verbs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldmark' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""The field marks of a class: its plate of specimens, and what tells it from its look-alike."""

from fieldmark.inspection.classes.figures import draw_classes
from fieldmark.inspection.classes.marks import ClassMarks, Specimen, describe_class

__all__ = ["ClassMarks", "Specimen", "describe_class", "draw_classes"]

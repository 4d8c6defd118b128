"""Mistakes by the pair of classes that were confused."""

from fieldmark.inspection.mistakes.figures import draw_mistakes
from fieldmark.inspection.mistakes.pairs import ConfusedPair, Mistaken, find_pairs

__all__ = ["ConfusedPair", "Mistaken", "draw_mistakes", "find_pairs"]

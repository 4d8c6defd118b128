"""Comparing runs: what they differ by, how sure that is, and what they cost."""

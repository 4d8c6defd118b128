"""Runs: the folder that holds everything about one training, and prediction from it."""

"""Grids of runs over seeds: what a study file says, which runs that makes, and their table."""

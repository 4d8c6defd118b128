"""Convolution networks of the literature, by name."""

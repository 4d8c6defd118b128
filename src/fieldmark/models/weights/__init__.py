"""Weights from files and from the hub, and what became of them."""

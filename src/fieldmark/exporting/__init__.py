"""Exporting: artifacts that run without torch, with a proof that they say the same."""

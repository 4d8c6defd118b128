"""Training: one loop over typed events, and what varies as its arguments."""

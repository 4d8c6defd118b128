"""Vision Transformers: patches, attention, tags, and the network for small sets."""

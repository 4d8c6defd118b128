"""What a network is made of: layers, counts, memory, receptive field."""

"""Looking inside a trained run: figures of what the network learned and why it answered."""

"""Plans: what to measure, train and look into before the time is spent."""

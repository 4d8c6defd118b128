"""How fast networks and loaders are on this machine, beside what the machine could do."""

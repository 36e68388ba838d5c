"""Stand-ins for the ports of our own code."""

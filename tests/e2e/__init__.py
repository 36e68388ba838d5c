"""The whole shop as real processes, through the scripts that people start."""

"""Tests of what no request may do: by walks over all methods of all contracts, against a whole shop."""

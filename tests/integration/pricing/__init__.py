"""Integration tests of pricing."""

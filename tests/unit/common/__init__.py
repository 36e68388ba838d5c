"""Tests of what every service shares, without database or network."""

"""Tests of rules and values: milliseconds each, nothing started but small tools."""

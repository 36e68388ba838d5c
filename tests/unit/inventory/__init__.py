"""Tests of inventory's rules, without a database."""

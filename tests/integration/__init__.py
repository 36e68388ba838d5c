"""Tests of one part each against real servers."""

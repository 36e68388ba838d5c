"""How properties are tested here: the same examples in each run, and no clock that could fail a slow machine."""

from hypothesis import settings

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=100)

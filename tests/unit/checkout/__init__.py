"""Tests of checkout's rules, saga, coordinator and journal, without services or a database."""

"""Tests of payment over real gRPC, on real PostgreSQL, with the card processor in a process of its own."""

"""Tests of checkout over real gRPC on real PostgreSQL, with the services that it calls."""

"""Tests of what every service shares, over real gRPC and real PostgreSQL."""

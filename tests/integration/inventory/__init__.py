"""Tests of inventory over real gRPC on real PostgreSQL."""

"""The demo: one order's story, told with grpcurl on a shop that is started for it."""

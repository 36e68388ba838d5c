"""Generated from protos/libretto; see scripts/generate."""

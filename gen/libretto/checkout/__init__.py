"""Generated from protos/libretto/checkout; see scripts/generate."""

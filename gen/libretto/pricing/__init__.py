"""Generated from protos/libretto/pricing; see scripts/generate."""

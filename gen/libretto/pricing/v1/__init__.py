"""Generated from protos/libretto/pricing/v1; see scripts/generate."""

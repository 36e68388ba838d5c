"""Generated from protos/libretto/inventory; see scripts/generate."""

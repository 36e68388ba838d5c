"""Generated from protos/libretto/common; see scripts/generate."""

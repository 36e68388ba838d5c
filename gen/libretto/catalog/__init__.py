"""Generated from protos/libretto/catalog; see scripts/generate."""

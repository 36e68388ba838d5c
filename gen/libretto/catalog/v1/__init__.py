"""Generated from protos/libretto/catalog/v1; see scripts/generate."""

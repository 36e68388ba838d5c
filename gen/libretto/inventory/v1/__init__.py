"""Generated from protos/libretto/inventory/v1; see scripts/generate."""

"""Generated from protos/libretto/payment; see scripts/generate."""

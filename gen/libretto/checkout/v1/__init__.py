"""Generated from protos/libretto/checkout/v1; see scripts/generate."""

"""Generated from protos/libretto/payment/v1; see scripts/generate."""

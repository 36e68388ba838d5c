"""Generated from protos/libretto/common/v1; see scripts/generate."""

"""The services of Libretto, one folder each, on the floor of `services.common`."""

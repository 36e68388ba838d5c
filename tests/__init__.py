"""The tests, by kind: unit, integration, e2e, faults; fakes of our own ports."""

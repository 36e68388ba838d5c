"""Payment's rules by themselves: decisions, and the settlement against fakes of its ports."""

"""What every service shares: one home for each value, rule and seam. It knows no service."""

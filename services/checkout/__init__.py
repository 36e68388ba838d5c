"""Checkout: turns a quote into a paid order, by orchestrating pricing, inventory and payment."""

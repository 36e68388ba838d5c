"""Pricing: quotes, each the promise of a total until it expires."""

"""Inventory: how many pieces of each SKU there are, and which of them are held or sold for orders."""

"""The catalog: what the shop sells, and what it costs."""

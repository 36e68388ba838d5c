"""The bench: what placing an order takes on a shop of real processes that is started for it."""

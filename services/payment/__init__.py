"""Payment: the money of orders. Authorise, then capture or void; the payment's row is its order's point of decision."""

"""What checkout can be told."""

from dataclasses import dataclass, field

from services.common.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutSettings(ServiceSettings):
    """Settings LIBRETTO_CHECKOUT_<NAME>."""

    pricing_target: str
    """Where pricing listens."""
    inventory_target: str
    """Where inventory listens."""
    payment_target: str
    """Where payment listens."""
    before_pivot_seconds: float = 60.0
    """How long after it was placed an order is aborted if it is not paid."""
    quick_retries_seconds: float = 300.0
    """How long what must be done is tried quickly, before it is marked for attention and tried slowly."""
    slow_retry_seconds: float = field(default=300.0, metadata={"at_least": 1})
    """How long to wait between slow tries."""
    saga_limit: int = 1_000
    """How many sagas may run at once; more orders are refused as OVERLOADED. 0: none, for a replica to be drained."""

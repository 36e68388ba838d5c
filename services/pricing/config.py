"""The settings of pricing."""

from dataclasses import dataclass

from services.common.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingSettings(ServiceSettings):
    """What pricing can be told besides what every service can."""

    catalog_target: str
    """Where the catalog answers: `host:port`, `dns:///name:port` or `unix:/path`."""
    quote_lifetime_seconds: float = 900.0
    """How long an order can be placed on a quote."""

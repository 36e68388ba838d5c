"""The settings of inventory."""

from dataclasses import dataclass

from services.common.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySettings(ServiceSettings):
    """What inventory can be told besides what every service can."""

    sweep_interval_seconds: float = 5.0
    """How often reservations whose time ran out are looked for."""
    sweep_limit: int = 500
    """How many of them are expired at a time, in one transaction."""
    sweep_rounds_limit: int = 20
    """How many full transactions may follow each other at once, before the next interval."""

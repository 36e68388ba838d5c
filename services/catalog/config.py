"""The settings of the catalog."""

from dataclasses import dataclass

from services.common.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings(ServiceSettings):
    """What the catalog can be told: what every service can."""

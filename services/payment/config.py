"""The settings of payment."""

from dataclasses import dataclass, field

from services.common.settings import ServiceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSettings(ServiceSettings):
    """What payment can be told besides what every service can."""

    processor_url: str
    """Where the card processor answers: `http://host:port` or `https://host`."""
    processor_api_key: str = field(repr=False)
    """The key that the card processor asks for."""
    processor_timeout_seconds: float = 5.0
    """How long one call to the card processor may take. An intent that nobody pursued is resolved a second later."""
    resolve_interval_seconds: float = 0.5
    """How often intents without a result are looked for."""
    authorize_limit_seconds: float = 900.0
    """How long an authorisation that the processor never heard of is asked for, where valid_until is not earlier."""
    flight_grace_seconds: float = 2.0
    """How long calls to the card processor may take to end when the service stops."""

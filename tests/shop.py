"""The whole shop in one process and one loop, on Unix sockets: real gRPC, real PostgreSQL, a real card processor."""

import importlib
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from libretto.catalog.v1 import catalog_service_pb2_grpc
from libretto.checkout.v1 import checkout_service_pb2_grpc
from libretto.inventory.v1 import inventory_service_pb2_grpc
from libretto.payment.v1 import payment_service_pb2_grpc
from libretto.pricing.v1 import pricing_service_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scripts.lib.shop import SERVICES
from services.common import tracing
from services.common.database import Database, drop_database, ensure_database, open_database
from services.common.server import Running
from services.common.settings import load
from services.common.tracing import Telemetry
from tests.integration.card_processor import API_KEY, Processor
from tests.rpc import new_key

if TYPE_CHECKING:
    from libretto.catalog.v1.catalog_service_pb2_grpc import CatalogServiceAsyncStub
    from libretto.checkout.v1.checkout_service_pb2_grpc import CheckoutServiceAsyncStub
    from libretto.inventory.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from libretto.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub
    from libretto.pricing.v1.pricing_service_pb2_grpc import PricingServiceAsyncStub

CALLS = {service.name: service.calls for service in SERVICES}
"""Which services each one calls, in an order in which each comes after those that it calls."""

Overrides = Mapping[str, Mapping[str, str]]
"""Settings by service and name, such as `{"catalog": {"minimum_ms": "500"}}`."""


@dataclass(slots=True)
class Shop:
    """A running shop, with a stub for each service and a look into each database."""

    processor: Processor
    spans: InMemorySpanExporter
    running: dict[str, Running] = field(default_factory=dict)
    databases: dict[str, Database] = field(default_factory=dict)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    @property
    def catalog(self) -> "CatalogServiceAsyncStub":
        """The catalog, called without interceptors of ours."""
        return catalog_service_pb2_grpc.CatalogServiceStub(self.channels["catalog"])

    @property
    def pricing(self) -> "PricingServiceAsyncStub":
        """Pricing, called without interceptors of ours."""
        return pricing_service_pb2_grpc.PricingServiceStub(self.channels["pricing"])

    @property
    def inventory(self) -> "InventoryServiceAsyncStub":
        """Inventory, called without interceptors of ours."""
        return inventory_service_pb2_grpc.InventoryServiceStub(self.channels["inventory"])

    @property
    def payment(self) -> "PaymentServiceAsyncStub":
        """Payment, called without interceptors of ours."""
        return payment_service_pb2_grpc.PaymentServiceStub(self.channels["payment"])

    @property
    def checkout(self) -> "CheckoutServiceAsyncStub":
        """Checkout, called without interceptors of ours."""
        return checkout_service_pb2_grpc.CheckoutServiceStub(self.channels["checkout"])


@asynccontextmanager
async def open_shop(
    postgres_url: str, processor: Processor, services: Iterable[str] = tuple(CALLS), overrides: Overrides | None = None
) -> AsyncIterator[Shop]:
    """Serve some services, each on a database of its own that is dropped at the end."""
    shop = Shop(processor, InMemorySpanExporter())
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="libretto-")))
        for name in services:
            database = f"{name}_{new_key().removeprefix('test-')}"
            url = await ensure_database(postgres_url, database)
            stack.push_async_callback(drop_database, postgres_url, database)
            settings = _settings(name, folder, url, processor) | dict((overrides or {}).get(name, {}))
            shop.running[name] = await _serve(name, settings, shop.spans)
            stack.push_async_callback(shop.running[name].stop)
            shop.databases[name] = await open_database(url)
            stack.push_async_callback(shop.databases[name].close)
            shop.channels[name] = grpc.aio.insecure_channel(shop.running[name].address)
            stack.push_async_callback(shop.channels[name].close)
        yield shop


def _settings(name: str, folder: Path, database_url: str, processor: Processor) -> dict[str, str]:
    settings = {
        "listen": f"unix:{folder}/{name}.sock",
        "database_url": database_url,
        "fingerprint_key": "a-key-for-tests",
    }
    settings |= {f"{callee}_target": f"unix:{folder}/{callee}.sock" for callee in CALLS[name]}
    if name == "payment":
        settings |= {"processor_url": f"http://{processor.address}", "processor_api_key": API_KEY}
    return settings


async def _serve(name: str, settings: Mapping[str, str], spans: InMemorySpanExporter) -> Running:
    module: Any = importlib.import_module(f"services.{name}.__main__")
    config: Any = importlib.import_module(f"services.{name}.config")
    provider = tracing.new_provider(name)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    environment = {f"LIBRETTO_{name}_{key}".upper(): value for key, value in settings.items()}
    kind = getattr(config, f"{name.capitalize()}Settings")
    running: Running = await module.serve(load(kind, name, environment), Telemetry(provider))
    return running

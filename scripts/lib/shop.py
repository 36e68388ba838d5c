"""The whole shop as processes: which services there are, where each listens, whom it calls, and how all are started."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from scripts.lib.launcher import Launcher, LaunchError, Program, launching
from scripts.lib.shop_folder import ShopFolder
from services.common.database import ensure_database
from services.common.postgres import EmbeddedPostgres

_READY_SECONDS: Final = 60.0
_PROBE_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 0.2
_HOST: Final = "127.0.0.1"
# Below the range from which Linux takes ports for connections that go out (ip_local_port_range, 32768 by default): none
# of those can take a port between its choice here and its service's start.
_FREE_PORTS: Final = range(20_000, 32_000)
_FREE_PORT_TRIES: Final = 1_000
_QUICK_RECONNECT: Final = tuple(
    (f"grpc.{name}_reconnect_backoff_ms", 100) for name in ("initial", "min", "max")
)  # The default of a second is for servers that are away, not for those about to come.


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the shop."""

    name: str
    """Its folder in services/, its database, and the part of its settings' names."""
    rpcs: str
    """The full name of its gRPC service."""
    port_offset: int
    """Where it listens, counted from the base port."""
    calls: tuple[str, ...] = ()
    """The services that it calls."""


SERVICES: Final = (
    Service("catalog", "libretto.catalog.v1.CatalogService", 2),
    Service("pricing", "libretto.pricing.v1.PricingService", 3, calls=("catalog",)),
    Service("inventory", "libretto.inventory.v1.InventoryService", 4),
    Service("payment", "libretto.payment.v1.PaymentService", 5),
    Service("checkout", "libretto.checkout.v1.CheckoutService", 1, calls=("pricing", "inventory", "payment")),
)
"""In an order in which each one comes after those that it calls: the shop starts so, and stops the other way round."""

CARD_PROCESSOR: Final = "card_processor"
_CARD_PROCESSOR_PORT_OFFSET: Final = 10

Addresses = Mapping[str, str]
"""Where each service, and the card processor, listens: `host:port` by name."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that is open."""

    folder: ShopFolder
    addresses: Addresses
    channels: Mapping[str, grpc.aio.Channel]
    """A channel to each service, without interceptors of ours."""
    launcher: Launcher
    postgres: EmbeddedPostgres
    processor_api_key: str = field(repr=False)

    def require_postgres(self) -> None:
        """Raise LaunchError when PostgreSQL has ended though nobody stopped it."""
        if not self.postgres.is_running:
            raise LaunchError(f"PostgreSQL ended; its log is {self.folder.postgres / 'postgres.log'}.")

    def require_all_alive(self) -> None:
        """Raise LaunchError when a process has ended though nobody stopped it."""
        self.require_postgres()
        self.launcher.require_all_alive()

    async def until_one_ends(self) -> None:
        """Wait until a process ends though nobody stopped it, and raise LaunchError."""
        while True:
            self.require_all_alive()
            await asyncio.sleep(_WATCH_SECONDS)


def fixed_addresses(base_port: int) -> Addresses:
    """Return addresses on the loopback interface that are the same each time."""
    offsets = {service.name: service.port_offset for service in SERVICES}
    offsets[CARD_PROCESSOR] = _CARD_PROCESSOR_PORT_OFFSET
    return {name: f"{_HOST}:{base_port + offset}" for name, offset in sorted(offsets.items(), key=lambda item: item[1])}


def free_addresses() -> Addresses:
    """Return addresses on the loopback interface where nothing listens."""
    names = [*(service.name for service in SERVICES), CARD_PROCESSOR]
    ports = random.SystemRandom().sample(_FREE_PORTS, _FREE_PORT_TRIES)
    free = (port for port in ports if _is_free(port))
    return {name: f"{_HOST}:{port}" for name, port in zip(names, free, strict=False)}


@asynccontextmanager
async def open_shop(folder: ShopFolder, addresses: Addresses, *, span_files: bool = True) -> AsyncIterator[Shop]:
    """Start PostgreSQL, then every process at once; the shop is open when all of them are ready.

    Services write their spans to files unless told not to. Call it in the main thread. Raises EmbeddedPostgresError,
    DatabaseUnavailableError, LaunchError, OSError.
    """
    async with AsyncExitStack() as stack:
        folder.prepare()
        postgres = stack.enter_context(EmbeddedPostgres.start(folder.postgres))
        channels = {service.name: _channel(addresses[service.name]) for service in SERVICES}
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        programs = [_card_processor(folder, addresses)]
        for service in SERVICES:
            url = await ensure_database(postgres.url(), service.name)
            program = _program(service, folder, addresses, url, channels[service.name], span_files=span_files)
            programs.append(program)
        launcher = await stack.enter_async_context(launching(folder.logs))
        for program in programs:
            launcher.start(program)
        await launcher.until_ready(_READY_SECONDS)
        yield Shop(folder, addresses, channels, launcher, postgres, folder.secret(CARD_PROCESSOR))


def _program(
    service: Service,
    folder: ShopFolder,
    addresses: Addresses,
    database_url: str,
    channel: grpc.aio.Channel,
    *,
    span_files: bool,
) -> Program:
    settings = {
        "listen": addresses[service.name],
        "database_url": database_url,
        "fingerprint_key": folder.secret(service.name),
    }
    if span_files:
        settings["span_file"] = str(folder.spans / f"{service.name}.jsonl")
    settings |= {f"{callee}_target": addresses[callee] for callee in service.calls}
    if service.name == "payment":
        settings["processor_url"] = f"http://{addresses[CARD_PROCESSOR]}"
        settings["processor_api_key"] = folder.secret(CARD_PROCESSOR)
    is_ready = partial(_serves, channel, service.rpcs)
    return Program(service.name, f"services.{service.name}", _environment(service.name, settings), is_ready)


def _card_processor(folder: ShopFolder, addresses: Addresses) -> Program:
    settings = {
        "listen": addresses[CARD_PROCESSOR],
        "ledger": str(folder.ledger),
        "api_key": folder.secret(CARD_PROCESSOR),
    }
    environment = _environment(CARD_PROCESSOR, settings)
    return Program(
        CARD_PROCESSOR, "services.outside.card_processor", environment, partial(_listens, settings["listen"])
    )


def _environment(name: str, settings: Mapping[str, str]) -> dict[str, str]:
    return {f"LIBRETTO_{name}_{key}".upper(): value for key, value in settings.items()}


def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=_QUICK_RECONNECT)


async def _serves(channel: grpc.aio.Channel, rpcs: str) -> bool:
    """Ask a service for its health."""
    request = health_pb2.HealthCheckRequest(service=rpcs)
    try:
        # The stub has this method, but its types do not know it.
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=_PROBE_SECONDS)  # type: ignore[attr-defined]
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _listens(address: str) -> bool:
    """Try to connect: for a party that has no way to be asked for its health."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except OSError:  # A TimeoutError is one too.
        return False
    writer.close()
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True

"""A real server with a handler of the test's own: pricing's contract, answered as a test wishes, without a database."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message
from libretto.pricing.v1 import pricing_service_pb2 as pb
from libretto.pricing.v1 import pricing_service_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common import server, tracing
from services.common.layers import Context
from services.common.server import Running
from services.common.settings import ServiceSettings
from services.common.tracing import Telemetry

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable
    from libretto.pricing.v1.pricing_service_pb2_grpc import PricingServiceAsyncStub

SERVICE = "libretto.pricing.v1.PricingService"
BOUND_SECONDS = 10.0
"""How long a test waits for what must happen."""

Answer = Callable[[Message, Context], Awaitable[Any]]


async def echo(_request: Message, _context: Context) -> Any:  # noqa: ANN401 - either of two responses.
    """Answer with an empty quote."""
    return pb.GetQuoteResponse()


@dataclass
class Handlers(pricing_service_pb2_grpc.PricingServiceServicer):
    """Answers every call as the test wishes, and keeps what came."""

    answer: Answer = echo
    requests: list[Message] = field(default_factory=list)

    async def CreateQuote(self, request: pb.CreateQuoteRequest, context: Context) -> pb.CreateQuoteResponse:  # noqa: N802 - the RPC's name.
        """Answer a request with nested messages."""
        self.requests.append(request)
        return pb.CreateQuoteResponse.FromString((await self.answer(request, context)).SerializeToString())

    async def GetQuote(self, request: pb.GetQuoteRequest, context: Context) -> pb.GetQuoteResponse:  # noqa: N802 - as above.
        """Answer a request with a text."""
        self.requests.append(request)
        response: pb.GetQuoteResponse = await self.answer(request, context)
        return response


@dataclass(slots=True)
class Host:
    """A running server, its handlers, a channel to it and the spans that it made."""

    running: Running
    handlers: Handlers
    channel: grpc.aio.Channel
    telemetry: Telemetry
    spans: InMemorySpanExporter
    closed: asyncio.Event
    """Set once what the service used was closed."""

    @property
    def stub(self) -> "PricingServiceAsyncStub":
        """Calls without interceptors of ours."""
        return pricing_service_pb2_grpc.PricingServiceStub(self.channel)

    async def send(self, method: str, data: bytes, timeout_seconds: float | None = BOUND_SECONDS) -> bytes:
        """Send bytes as a request, and return the response's."""
        call: UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return await call(data, timeout=timeout_seconds)


@asynccontextmanager
async def hosted(
    answer: Answer = echo,
    *,
    listen: str = "",
    **settings: Any,  # noqa: ANN401 - each setting has a type of its own.
) -> AsyncIterator[Host]:
    """Serve on a Unix socket of its own, or where `listen` says, with some settings of a service."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="libretto-")))
        spans = InMemorySpanExporter()
        provider = tracing.new_provider("pricing")
        provider.add_span_processor(SimpleSpanProcessor(spans))
        telemetry = Telemetry(provider)
        handlers, closed = Handlers(answer), asyncio.Event()
        resources = AsyncExitStack()
        resources.callback(closed.set)
        running = await server.start(
            SERVICE,
            partial(pricing_service_pb2_grpc.add_PricingServiceServicer_to_server, handlers),
            ServiceSettings(
                listen=listen or f"unix:{folder}/host.sock", database_url="", fingerprint_key="", **settings
            ),
            telemetry,
            resources,
        )
        stack.push_async_callback(running.stop)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.address))
        yield Host(running, handlers, channel, telemetry, spans, closed)


class Gate:
    """A handler that waits in its call until the test opens the gate."""

    def __init__(self, expected: int = 1) -> None:
        """Expect a number of calls."""
        self._expected = expected
        self._inside = 0
        self.full = asyncio.Event()
        """Set once all that are expected are inside."""
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()
        """Set once a call was cancelled while it waited."""

    async def __call__(self, _request: Message, _context: Context) -> pb.GetQuoteResponse:
        """Wait."""
        self._inside += 1
        if self._inside == self._expected:
            self.full.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return pb.GetQuoteResponse()


async def soon(awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - what is awaited says what comes.
    """Await what must happen within bounds."""
    async with asyncio.timeout(BOUND_SECONDS):
        return await awaitable

"""How a service is served: the gRPC server with its layers, health, reflection and a graceful end.

The layers of each call, outermost first: the span, errors to statuses, the limit of open calls, the deadline, and the
check of the request's bytes.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc import error_details_pb2  # noqa: F401 - reflection then lets grpcurl print ErrorInfo as text.
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from services.common import deadline, errors, tracing
from services.common.errors import StatusError
from services.common.layers import CallStats, Context, Handler, Layer, Method, method_of
from services.common.settings import ServiceSettings
from services.common.tracing import Telemetry
from services.common.values import MalformedRequestError, OverloadedError

MAX_REQUEST_BYTES = 256 * 1024
_SPARE_CALLS = 1_000
"""What the library takes above our own limit: health, reflection, and calls that are just being refused. What exceeds
this too is refused by it, without a reason."""
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_concurrent_streams", 500),  # Calls whose message never comes are counted by no layer of ours.
    ("grpc.so_reuseport", 0),  # Else a second server takes half of the calls in silence.
    ("grpc.max_connection_age_ms", 300_000),  # Clients resolve names anew only when a connection ends.
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(slots=True)
class Running:
    """A service that answers calls, until `stop`."""

    address: str
    """Where it listens: `host:port` with the port that was bound, or `unix:/path`."""
    stats: CallStats
    _server: grpc.aio.Server
    _health: health.aio.HealthServicer
    _resources: AsyncExitStack
    _settings: ServiceSettings
    _on_stop: Callable[[], None]

    async def stop(self) -> None:
        """Say NOT_SERVING, give clients time to see it, end open calls within the grace, then close what was used."""
        try:
            await self._health.enter_graceful_shutdown()
            await asyncio.sleep(self._settings.drain_ms / 1000)
            self._on_stop()
            await self._server.stop(self._settings.grace_ms / 1000)
        finally:
            await self._resources.aclose()


async def start(
    service: str,
    add_servicer: Callable[[grpc.aio.Server], None],
    settings: ServiceSettings,
    telemetry: Telemetry,
    resources: AsyncExitStack,
    *,
    on_stop: Callable[[], None] = lambda: None,
) -> Running:
    """Serve one gRPC service, such as `libretto.catalog.v1.CatalogService`, at the address of the settings.

    `on_stop` is called when a stop begins, so that calls which wait for something may answer with what they have.
    `resources` is closed after the last call has ended, or at once when the start fails. Raises OSError where the
    address is taken.
    """
    stats = CallStats()
    layers = (
        tracing.layer(telemetry),
        errors.layer,
        _limited(settings.open_calls_limit, stats),
        deadline.layer(settings.deadline_rules, stats),
        _checked,
    )
    async with AsyncExitStack() as undo:
        undo.push_async_callback(resources.aclose)
        server = grpc.aio.server(
            interceptors=[_Layers(layers)],
            options=_OPTIONS,
            maximum_concurrent_rpcs=settings.open_calls_limit + _SPARE_CALLS,
        )
        undo.push_async_callback(server.stop, None)
        add_servicer(server)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        reflection.enable_server_reflection((service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        address = _bind(server, settings.listen)
        await server.start()
        for name in ("", service):
            await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        undo.pop_all()
    return Running(address, stats, server, health_servicer, resources, settings, on_stop)


def _bind(server: grpc.aio.Server, listen: str) -> str:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}: is something else listening there?") from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


class _Layers(grpc.aio.ServerInterceptor):
    """Wraps the unary methods of a server in its layers, each method once."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the library's own type of handlers is private.
        path: str = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or handler.request_streaming or handler.response_streaming:
                return handler
            wrapped = self._wrapped[path] = self._wrap(method_of(path), handler)
        return wrapped

    def _wrap(self, method: Method, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":  # noqa: ANN401 - as above.
        answer: Handler = handler.unary_unary
        for layer in reversed(self._layers):
            answer = layer(method, answer)
        return grpc.unary_unary_rpc_method_handler(
            _sending(answer),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _sending(handler: Handler) -> Handler:
    """Send a StatusError in the way that the library knows, and the trace's id with every answer."""

    @functools.wraps(handler)
    async def sending(request: Message, context: Context) -> Message:
        try:
            return await handler(request, context)
        except StatusError as error:
            status = rpc_status.to_status(error.status)
            trailing = (*(context.trailing_metadata() or ()), *status.trailing_metadata)
            await context.abort(status.code, status.details, trailing)

    return sending


class _Malformed:
    """Stands for a request whose bytes could not be read."""


def _tolerant(deserialize: Callable[[bytes], Message]) -> Callable[[bytes], Message | _Malformed]:
    """Hand bytes that are no message on to the layers: the library itself would answer UNKNOWN."""

    def deserialized(data: bytes) -> Message | _Malformed:
        try:
            return deserialize(data)
        except DecodeError:
            return _Malformed()

    return deserialized


def _checked(_method: Method, handler: Handler) -> Handler:
    """Refuse requests that could not be read, or whose known fields came with a wrong wire type."""

    @functools.wraps(handler)
    async def checking(request: Message, context: Context) -> Message:
        if isinstance(request, _Malformed):
            raise MalformedRequestError("The request's bytes are no message of the method's request type.")
        path = _misread_field(request)
        if path is not None:
            raise MalformedRequestError(f"{path}: the field came with a wrong wire type.", field=path)
        return await handler(request, context)

    return checking


def _misread_field(message: Message) -> str | None:
    """Return the path of the first known field that was kept as unknown, which means a wrong wire type."""
    known = message.DESCRIPTOR.fields_by_number
    for unknown in UnknownFieldSet(message):  # type: ignore[attr-defined]  # the stubs lack __iter__
        if unknown.field_number in known:
            return str(known[unknown.field_number].name)
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        items = ((f"[{index}]", item) for index, item in enumerate(value)) if descriptor.is_repeated else (("", value),)
        for place, item in items:
            inner = _misread_field(item)
            if inner is not None:
                return f"{descriptor.name}{place}.{inner}"
    return None


def _limited(limit: int, stats: CallStats) -> Layer:
    """Count calls that are open, and the most there ever were; refuse one too many. Health is asked in any number."""

    def wrap(method: Method, handler: Handler) -> Handler:
        if method.full_name.startswith(f"{health.SERVICE_NAME}/"):
            return handler

        @functools.wraps(handler)
        async def counting(request: Message, context: Context) -> Message:
            if stats.open_calls >= limit:
                raise OverloadedError("Too many calls are open; try again a little later.")
            stats.open_calls += 1
            stats.peak_open_calls = max(stats.peak_open_calls, stats.open_calls)
            try:
                return await handler(request, context)
            finally:
                stats.open_calls -= 1

        return counting

    return wrap

"""Calls that go out: one channel a target, one interceptor that gives each call deadline, span and typed error."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from services.common import deadline, tracing
from services.common.deadline import DeadlineRules
from services.common.errors import from_call_error
from services.common.layers import Method, method_of
from services.common.tracing import Telemetry

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
"""A batch of 64 products, or a page of 200, may hold 17,000 bytes of text each."""
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_retries", 0),  # Retries are the callers' own, visible in traces: two of them would multiply.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(target: str, telemetry: Telemetry, rules: DeadlineRules) -> grpc.aio.Channel:
    """Open a channel to a service: `host:port`, `dns:///name:port` or `unix:/path`."""
    return grpc.aio.insecure_channel(target, _OPTIONS, interceptors=[_Outgoing(telemetry, rules)])


class _Outgoing(grpc.aio.UnaryUnaryClientInterceptor):
    """Puts deadline, trace context and typed errors on each call."""

    def __init__(self, telemetry: Telemetry, rules: DeadlineRules) -> None:
        self._tracer, self._rules = telemetry.tracer, rules
        self._methods: dict[str, Method] = {}

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,  # noqa: ANN401 - the library speaks of any message.
    ) -> Any:  # noqa: ANN401 - as above.
        """Run one call. Raises RemoteError for an answer that is no response, DeadlineTooShortError before sending."""
        method = self._method(client_call_details.method)
        timeout_seconds = deadline.for_call(method, self._rules)
        span = tracing.start_client_span(self._tracer, method)
        code = grpc.StatusCode.CANCELLED  # What it is when neither a response nor an error arrives.
        metadata = grpc.aio.Metadata(*tracing.context_headers(span).items())
        details = grpc.aio.ClientCallDetails(
            client_call_details.method,
            timeout_seconds,
            metadata,
            client_call_details.credentials,
            client_call_details.wait_for_ready,
        )
        try:
            call = await continuation(details, request)
            response = await call
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise from_call_error(error) from None
        else:
            return response
        finally:
            tracing.end_client_span(span, code)

    def _method(self, path: str | bytes) -> Method:
        name = path.decode() if isinstance(path, bytes) else path
        if name not in self._methods:
            self._methods[name] = method_of(name)
        return self._methods[name]

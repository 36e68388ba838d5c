"""What a server wraps around its handlers: layers, each a function from a handler to a handler.

`services.common.server` puts them in order. A layer is applied once a method, when it is first called.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from libretto.common.v1 import options_pb2

_FOREIGN_DEADLINE_SECONDS = 5.0
"""The default deadline of methods that are not Libretto's, such as those of health checks."""

Context = grpc.aio.ServicerContext[Message, Message]
"""What gRPC tells a handler about its call."""

Handler = Callable[[Message, Context], Awaitable[Message]]
"""Answers one request."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC, as its contract describes it."""

    full_name: str
    """Service and method, such as `libretto.catalog.v1.CatalogService/GetProduct`."""
    default_deadline_seconds: float
    """The deadline of a call whose caller sets none."""


def method_of(path: str) -> Method:
    """Look a method up by its path on the wire, such as `/libretto.catalog.v1.CatalogService/GetProduct`."""
    full_name = path.removeprefix("/")
    service_name, _, method_name = full_name.partition("/")
    method = descriptor_pool.Default().FindServiceByName(service_name).methods_by_name[method_name]
    options = method.GetOptions()
    if not options.HasExtension(options_pb2.default_deadline):
        return Method(full_name, _FOREIGN_DEADLINE_SECONDS)
    return Method(full_name, options.Extensions[options_pb2.default_deadline].ToTimedelta().total_seconds())


Layer = Callable[[Method, Handler], Handler]
"""Wraps a method's handler in another."""


@dataclass(slots=True)
class CallStats:
    """Counts of a server's calls, for tests and, later, for metrics."""

    open_calls: int = 0
    peak_open_calls: int = 0
    refused_for_deadline: int = 0
